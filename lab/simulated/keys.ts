/** SSH keys for hosts and for the user that logs in. */
import { utils } from "ssh2";

/** A key pair in OpenSSH's format. */
export interface KeyPair {
  publicKey: string;
  privateKey: string;
}

/** Creates an ed25519 key pair. ssh2 occasionally writes one that it cannot read itself; such a pair is discarded. */
export function makeKeyPair(): KeyPair {
  for (;;) {
    const { public: publicKey, private: privateKey } = utils.generateKeyPairSync("ed25519");
    if (!(utils.parseKey(privateKey) instanceof Error) && !(utils.parseKey(publicKey) instanceof Error)) {
      return { publicKey: publicKey.trim(), privateKey };
    }
  }
}
