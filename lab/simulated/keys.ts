/** SSH keys for hosts and for the user who logs in to them. */
import { utils } from "ssh2";

/** A key pair in OpenSSH's form. */
export interface KeyPair {
  publicKey: string;
  privateKey: string;
}

/** Makes an ed25519 key pair. ssh2 now and then writes one that it cannot read itself; such a pair is thrown away. */
export function makeKeyPair(): KeyPair {
  for (;;) {
    const { public: publicKey, private: privateKey } = utils.generateKeyPairSync("ed25519");
    if (!(utils.parseKey(privateKey) instanceof Error) && !(utils.parseKey(publicKey) instanceof Error)) {
      return { publicKey: publicKey.trim(), privateKey };
    }
  }
}
