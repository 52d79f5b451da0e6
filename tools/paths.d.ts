/** The Pulumi CLI to install. It follows the SDK: a CLI older than the SDK may not know what the SDK asks of it. */
export declare const PULUMI_VERSION: string;
/** The root of this checkout, with symbolic links resolved. */
export declare const checkoutRoot: string;
/** Where everything that is kept between runs and shared by checkouts lives. It can be deleted at any time. */
export declare function cacheDir(): string;
/** The folder of our own copy of the Pulumi CLI; the programs are in its `bin`. */
export declare function pulumiRoot(): string;
/** Eight hex digits that tell this checkout from others on the same machine. */
export declare function checkoutId(): string;
