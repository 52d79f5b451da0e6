const [QUOTE, BACKSLASH, COMMA, OPEN_LIST, CLOSE_LIST, OPEN_MAP, CLOSE_MAP] = Buffer.from('"\\,[]{}');

/**
 * Splits an answer of LXD's API while it arrives, so that a list of any length is never in memory as a whole.
 * `{"metadata": [...]}` becomes an envelope with an empty list, and the elements of that list one by one.
 */
export class ListSplitter {
  private readonly envelopeParts: Buffer[] = [];
  private elementParts: Buffer[] = [];
  private depth = 0;
  private inText = false;
  private isEscaped = false;
  private inList = false;

  /** @param onElement - Receives the JSON of each element. */
  constructor(private readonly onElement: (json: string) => void) {}

  /** The answer without the elements of its list. */
  get envelope(): string {
    return Buffer.concat(this.envelopeParts).toString("utf8");
  }

  take(chunk: Buffer): void {
    let from = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at];
      if (this.inText) {
        if (this.isEscaped) {
          this.isEscaped = false;
        } else if (byte === BACKSLASH) {
          this.isEscaped = true;
        } else if (byte === QUOTE) {
          this.inText = false;
        }
      } else if (byte === QUOTE) {
        this.inText = true;
      } else if (byte === OPEN_LIST || byte === OPEN_MAP) {
        this.depth += 1;
        if (byte === OPEN_LIST && this.depth === 2) {
          this.envelopeParts.push(chunk.subarray(from, at + 1));
          this.inList = true;
          from = at + 1;
        }
      } else if (byte === CLOSE_LIST || byte === CLOSE_MAP) {
        this.depth -= 1;
        if (this.inList && this.depth === 1) {
          this.endElement(chunk.subarray(from, at));
          this.inList = false;
          from = at;
        }
      } else if (byte === COMMA && this.inList && this.depth === 2) {
        this.endElement(chunk.subarray(from, at));
        from = at + 1;
      }
    }
    (this.inList ? this.elementParts : this.envelopeParts).push(chunk.subarray(from));
  }

  private endElement(last: Buffer): void {
    const json = Buffer.concat([...this.elementParts, last]).toString("utf8");
    this.elementParts = [];
    if (json.trim() !== "") {
      this.onElement(json);
    }
  }
}
