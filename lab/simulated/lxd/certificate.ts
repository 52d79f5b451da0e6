/** A self-signed certificate for a simulated daemon. Nothing is encrypted with it; clients read and compare it. */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

/** A certificate in LXD's format. */
export interface Certificate {
  pem: string;
  /** sha256 of the DER form, in hexadecimal. */
  fingerprint: string;
}

/**
 * Makes a certificate for a host name.
 * @param options.notAfter - End of its validity, such as `351231000000Z`.
 * @param options.subjectKey - Its public key, if another one than that which signs it.
 */
export function makeCertificate(
  commonName: string,
  options: { readonly notAfter?: string; readonly subjectKey?: KeyObject } = {},
): Certificate {
  const { notAfter = "351231000000Z" } = options;
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const ed25519 = sequence(der(0x06, Buffer.from([0x2b, 0x65, 0x70])));
  const name = sequence(
    der(0x31, sequence(der(0x06, Buffer.from([0x55, 0x04, 0x03])), der(0x0c, Buffer.from(`root@${commonName}`)))),
  );
  const serial = randomBytes(16);
  serial[0] = 0x01;
  const validity = sequence(der(0x17, Buffer.from("200101000000Z")), der(0x17, Buffer.from(notAfter)));
  const version3 = der(0xa0, der(0x02, Buffer.from([2])));
  const spki = (options.subjectKey ?? publicKey).export({ format: "der", type: "spki" });
  const toBeSigned = sequence(version3, der(0x02, serial), ed25519, name, validity, name, spki);
  const signature = der(0x03, Buffer.concat([Buffer.from([0]), sign(null, toBeSigned, privateKey)]));
  const certificate = sequence(toBeSigned, ed25519, signature);
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return certificateOf(`-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`);
}

/** A certificate that was created elsewhere. */
export function certificateOf(pem: string): Certificate {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  return { pem, fingerprint: createHash("sha256").update(der).digest("hex") };
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const header = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), content]);
}
