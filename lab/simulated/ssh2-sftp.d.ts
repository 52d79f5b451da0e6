/** ssh2's class for SFTP, which its types do not declare. */
declare module "ssh2/lib/protocol/SFTP.js" {
  export class SFTP {
    constructor(client: object, channel: object, config: { server: boolean });
    push(data: Buffer | null): void;
  }
}
