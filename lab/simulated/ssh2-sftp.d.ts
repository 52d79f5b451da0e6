/** The class that ssh2 speaks SFTP with, which its types do not show. */
declare module "ssh2/lib/protocol/SFTP.js" {
  export class SFTP {
    constructor(client: object, channel: object, config: { server: boolean });
    push(data: Buffer | null): void;
  }
}
