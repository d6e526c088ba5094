//! The bytes of a bundle: one file for each structure.
//!
//! A bundle is a plain POSIX tar whose entries stand in one fixed order (`docs/format.md`):
//!
//! ```text
//! manifest | signatures | info/NAME … | index | data | data.1 | …  | two zero blocks
//! ```
//!
//! Every module defines the same things: limits, a value that is always valid (`Manifest`, `Record`, …), `parse` from bytes
//! that may be hostile, and `emit`, which the builder uses, so that reader and writer share one definition.
//!
//! # Invariants
//! - Parsing never panics and never allocates; every length is checked against a named limit first.
//! - One value has one encoding: a tar header is accepted only when it is the very header that [`tar::emit_header`] makes.

pub(crate) mod bytes;
pub mod digest;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod recovery;
pub mod signatures;
pub mod tar;
pub mod text;

/// Version of the bundle format that this code reads and writes.
pub const FORMAT_VERSION: u16 = 3;

/// Largest manifest. Stops a sender from making a device buffer megabytes before a signature is checked.
pub const MANIFEST_MAX_BYTES: usize = 8 * 1024;

/// Largest `signatures` entry: room for three hybrid signers (Ed25519 with ML-DSA-87, 4,627 bytes). Stops the same attack.
pub const SIGNATURES_MAX_BYTES: usize = 16 * 1024;

/// Largest buffer for the front matter: two headers, manifest and signatures with padding, and the two zero blocks that let a
/// tar reader take the front matter alone as an archive.
pub const FRONT_MAX_BYTES: usize =
    2 * tar::BLOCK_BYTES + MANIFEST_MAX_BYTES + SIGNATURES_MAX_BYTES + 2 * tar::BLOCK_BYTES;

/// Most signatures in one bundle. Stops a sender from making a device check signatures without end.
pub const SIGNATURES_MAX_COUNT: usize = 8;

/// Largest stored range: a range is held whole in memory until its digest is checked, so this bounds the buffer.
pub const RANGE_MAX_BYTES: u32 = 1024 * 1024;

/// Most bytes that one range may decode to. Bounds the work that one authenticated range can ask for.
pub const RANGE_RAW_MAX_BYTES: u32 = 16 * 1024 * 1024;

/// Largest zstd window, as a power of two (1 MiB). Bounds the memory of the decoder that is given to core.
pub const ZSTD_WINDOW_LOG_MAX: u8 = 20;

/// Largest blob and largest `data`: far beyond any device, far from wrapping a `u64` sum.
pub const BLOB_MAX_BYTES: u64 = 1 << 48;

/// Largest `data` entry: what the size field of a plain tar header can say (eleven octal digits).
pub const DATA_PART_MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024 - 1;

/// Most `data` entries (256 GiB in all).
pub const DATA_PARTS_MAX_COUNT: usize = 32;

/// Most payloads in a manifest.
pub const PAYLOADS_MAX_COUNT: usize = 16;

/// Most `info/…` entries.
pub const INFO_MAX_COUNT: usize = 8;

/// Most routes through the index (the full one, and one per base release).
pub const ROUTES_MAX_COUNT: usize = 16;
