//! Why an initramfs cannot be made.

use std::path::PathBuf;

/// Why an initramfs cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EarlyError {
    /// The program has no bytes.
    #[error("`{}` is empty and cannot become /init. Give a static program.", .0.display())]
    InitEmpty(PathBuf),
    /// A line that is no name of a module.
    #[error(
        "`{}` has the line `{}`, which is no name of a module. Write NAME or NAME.ko, and decompress the module first.",
        order.display(), line.escape_debug()
    )]
    ModuleName {
        /// The list.
        order: PathBuf,
        /// The line.
        line: String,
    },
    /// A module that is named twice.
    #[error("`{}` names `{name}` twice. Remove one line.", order.display())]
    ModuleTwice {
        /// The list.
        order: PathBuf,
        /// The module.
        name: String,
    },
    /// More modules than an initramfs needs.
    #[error("`{}` names more than {limit} modules. Give only those that the root needs.", order.display())]
    TooManyModules {
        /// The list.
        order: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// No key, or more than a recovery can have.
    #[error("A recovery trusts from 1 to {limit} keys. Name those that sign releases.")]
    Keys {
        /// Most keys.
        limit: usize,
    },
    /// A file that the archive's 32-bit sizes cannot hold.
    #[error("`{0}` is too large for an initramfs. Leave it to the root.")]
    TooLarge(String),
}
