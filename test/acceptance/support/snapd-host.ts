/**
 * A host of the lab with the real snapd of Debian 12 (2.57.6), without access to Canonical's store. Snaps from files
 * replace snapd's own, a base, and LXD; this process replaces the store. Its snaps are not signed, so no installation
 * from it completes.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { RealLab } from "../../../lab/real";

const STORE = { address: "192.168.1.10", port: 11028 };

/** LXD's id in the real store. */
const SNAP_ID = "J60k4JY0HppjwOjW8dZdYc8obXKxujRu";

/** Number of pieces of a download, one per second. */
const PIECES = 3;

/** Maximum seconds to hold back the last piece, until the test has seen the progress. */
const LONGEST_SECONDS = 60;

/**
 * snapd needs udev, which is masked in the lab, and shared mounts for its own setup. A service of a new snap exits some times in
 * its first second here, and systemd would give it up after 5 starts in 10 seconds.
 */
const INSTALL = `
set -eu
export DEBIAN_FRONTEND=noninteractive
mount --make-rshared /
mkdir -p /opt/lab/bin /etc/systemd/system/snapd.service.d /etc/systemd/system/snap.lxd.daemon.service.d
printf '[Unit]\\nStartLimitIntervalSec=0\\n' > /etc/systemd/system/snap.lxd.daemon.service.d/lab.conf
printf '#!/bin/sh\\nexit 0\\n' > /opt/lab/bin/udevadm
chmod +x /opt/lab/bin/udevadm
cat > /etc/systemd/system/snapd.service.d/lab.conf <<'END'
[Service]
Environment=SNAP_REEXEC=0
Environment=PATH=/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Environment=SNAPPY_FORCE_API_URL=http://${STORE.address}:${STORE.port}/
END
apt-get update -q
apt-get install -y -q --no-install-recommends snapd squashfuse fuse3
`;

/** The minimum that snapd accepts as itself, a base, and LXD. */
const SNAPS = `
set -eu
mkdir -p /root/snaps
cd /root/snaps
head() { printf 'name: %s\\nversion: "%s"\\nsummary: of the lab\\ndescription: of the lab\\nconfinement: strict\\narchitectures: [all]\\n' "$1" "$2"; }
mkdir -p snapd/meta snapd/usr/lib/snapd core22/meta lxd/meta lxd/bin
{ head snapd 2.57.6; echo 'type: snapd'; } > snapd/meta/snap.yaml
echo 'VERSION=2.57.6' > snapd/usr/lib/snapd/info
{ head core22 1; echo 'type: base'; } > core22/meta/snap.yaml
(cd core22; mkdir -p bin sbin lib lib64 dev etc home root proc snap sys tmp run media mnt opt srv boot writable usr/bin usr/sbin \\
  usr/lib/snapd usr/lib/x86_64-linux-gnu usr/src usr/share usr/local lib/modules lib/firmware lib/x86_64-linux-gnu var/lib/snapd var/log \\
  var/snap var/tmp var/cache etc/alternatives etc/ssl etc/nsswitch.conf.d var/lib/extrausers var/lib/systemd usr/share/fonts)
for program in sh sleep mkdir touch; do
  file=$(readlink -f "$(command -v $program)")
  cp -L "$file" core22/bin/$program
  for library in $(ldd "$file" | grep -o '/[^ ]*'); do mkdir -p "core22$(dirname "$library")"; cp -L "$library" "core22$library"; done
done
{ head lxd 5.21.1-abcdef0; printf 'base: core22\\napps:\\n  daemon:\\n    command: bin/daemon\\n    daemon: simple\\n    plugs: [network-bind, mount-observe]\\n'; } > lxd/meta/snap.yaml
printf '#!/bin/sh\\nmkdir -p $SNAP_COMMON/lxd\\ntouch $SNAP_COMMON/lxd/started\\nwhile :; do sleep 1; done\\n' > lxd/bin/daemon
mkdir -p lxd/meta/hooks
cat > lxd/meta/hooks/configure <<'END'
#!/bin/sh
value=$(/usr/lib/snapd/snapctl get wrong)
if [ -n "$value" ]; then echo "cannot use $value" >&2; exit 1; fi
END
chmod +x lxd/bin/daemon lxd/meta/hooks/configure
for snap in snapd core22 lxd; do snap pack $snap /root/snaps; done
for file in snapd_2.57.6_all core22_1_all; do snap install --dangerous $file.snap; done
`;

/** Installs the replacement of LXD. */
export const INSTALL_FROM_FILE = ["snap", "install", "--dangerous", "/root/snaps/lxd_5.21.1-abcdef0_all.snap"];

/** Installs snapd on a bare host. The store must be open. */
export async function bringSnapd(lab: RealLab, host: string): Promise<void> {
  for (const script of [INSTALL, SNAPS]) {
    const { exitCode, stdout, stderr } = await lab.hostExec(host, ["sh", "-s"], { stdin: script });
    if (exitCode !== 0) {
      throw new Error(`snapd is not ready on ${host}: ${stderr}${stdout}`);
    }
  }
}

/** What snapd asks the store for: a revision, or what a channel has. */
interface StoreAction {
  readonly action: string;
  readonly channel?: string;
  readonly revision?: number;
  readonly "instance-key": string;
}

/**
 * Starts the replacement of the store: it lists LXD in two channels of 5.21, and serves an unsigned file.
 * @param isSeen - Whether the test has seen the progress of a download.
 */
export async function openStore(isSeen: () => boolean): Promise<Server> {
  const file = Buffer.alloc(3 * 2 ** 20, "x");
  const snap = {
    "snap-id": SNAP_ID,
    name: "lxd",
    title: "LXD",
    summary: "LXD",
    description: "LXD",
    version: "5.21.9-fake",
    revision: 40000,
    type: "app",
    base: "core22",
    confinement: "strict",
    architectures: ["amd64"],
    epoch: { read: [0], write: [0] },
    publisher: { id: "canonical", username: "canonical", "display-name": "Canonical", validation: "verified" },
    download: {
      url: `http://${STORE.address}:${STORE.port}/download/lxd`,
      size: file.length,
      "sha3-384": createHash("sha3-384").update(file).digest("hex"),
      deltas: [],
    },
  };
  const channels = ["stable", "candidate"];
  const map = channels.map((risk) => ({
    ...snap,
    channel: { architecture: "amd64", name: `5.21/${risk}`, risk, track: "5.21", "released-at": "2026-01-01T00:00:00Z" },
  }));
  const answers: Record<string, (body: string) => object | undefined> = {
    "/api/v1/snaps/sections": () => ({ _embedded: { "clickindex:sections": [] } }),
    "/api/v1/snaps/names": () => ({ _embedded: { "clickindex:package": [] } }),
    "/v2/snaps/info/lxd": () => ({ name: "lxd", "snap-id": SNAP_ID, snap, "default-track": "5.21", "channel-map": map }),
    "/v2/snaps/refresh": (body) => {
      const { actions = [] } = JSON.parse(body) as { actions?: StoreAction[] };
      const results = actions.map(({ action, channel = "5.21/stable", revision, "instance-key": key }) => {
        const releases = channels.map((risk) => ({ architecture: "amd64", channel: `5.21/${risk}` }));
        const extra = revision === undefined ? { extra: { releases } } : {};
        const error = { code: "revision-not-found", message: "No revision was found in the Store.", ...extra };
        const common = { "instance-key": key, "snap-id": SNAP_ID, name: "lxd" };
        return channels.includes(channel.replace("5.21/", "")) &&
          channel.startsWith("5.21/") &&
          (revision ?? snap.revision) === snap.revision
          ? { ...common, result: action, "effective-channel": channel, snap }
          : { ...common, result: "error", error };
      });
      return { results, "error-list": [] };
    },
  };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on("end", () => {
      const { pathname } = new URL(request.url ?? "/", "http://store");
      if (pathname === "/download/lxd") {
        response.writeHead(200, { "content-length": file.length, "content-type": "application/octet-stream" });
        const piece = Math.ceil(file.length / PIECES);
        const send = (from: number, second: number): void => {
          const isLast = from + piece >= file.length;
          if (isLast && !isSeen() && second < LONGEST_SECONDS) {
            setTimeout(() => send(from, second + 1), 1000);
            return;
          }
          response.write(file.subarray(from, from + piece));
          if (isLast) {
            response.end();
          } else {
            setTimeout(() => send(from + piece, second + 1), 1000);
          }
        };
        send(0, 0);
        return;
      }
      const answer = answers[pathname]?.(body);
      response.writeHead(answer === undefined ? 404 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify(answer ?? { "error-list": [{ code: "not-found", message: "not found" }] }));
    });
  });
  await new Promise<void>((resolve) => server.listen(STORE.port, STORE.address, resolve));
  return server;
}
