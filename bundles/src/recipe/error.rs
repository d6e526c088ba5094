//! Why a recipe cannot be used.

use std::path::PathBuf;

/// Why a recipe cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// Not TOML, a key that is not known, or a value of another kind. The message shows the line.
    #[error("`{}` cannot be used as a recipe:\n{message}", path.display())]
    Unreadable {
        /// The recipe.
        path: PathBuf,
        /// What is wrong, with the line.
        message: String,
    },
    /// A key that every bundle needs.
    #[error("`{0}` is missing. Give it in the recipe or as `--{0}`.")]
    Missing(&'static str),
    /// A key that another one needs.
    #[error("`{needs}` needs `{missing}` too. Give it in the recipe or as a flag.")]
    MissingFor {
        /// The key that is there.
        needs: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Two keys of which only one can hold.
    #[error("`{0}` and `{1}` exclude each other. Leave one out.")]
    Both(&'static str, &'static str),
    /// Text that is not a name.
    #[error(
        "`{field}` is `{text}`, which is not a name: use 1 to 64 small letters, digits, `.`, `_` and `-`, and begin with a letter or digit."
    )]
    Name {
        /// The key.
        field: &'static str,
        /// Its value.
        text: String,
    },
    /// Text that is not one line of plain characters.
    #[error("`{field}` is not one line of at most 128 printable ASCII characters: `{}`.", text.escape_debug())]
    Line {
        /// The key.
        field: &'static str,
        /// Its value.
        text: String,
    },
    /// A name that is given twice.
    #[error("`{field}` has two entries called `{name}`. Give each its own name.")]
    Twice {
        /// The key.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A number outside its range.
    #[error("`{field}` is {value} and must be from {lowest} to {highest}.")]
    Number {
        /// The key.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The lowest that it may be.
        lowest: i64,
        /// The highest that it may be.
        highest: i64,
    },
    /// A validity window that ends before it begins.
    #[error("The window ends before it begins. Correct `not-before` or `not-after`.")]
    Window,
    /// Nothing to install.
    #[error("There is nothing to install. Give `root` with `kernel` or `uki`, or an `image`.")]
    Nothing,
    /// A command line that seals an image by itself.
    #[error(
        "`cmdline` has `composefs=` on it already. Leave it out: the builder adds the digest of the image that it makes."
    )]
    CommandLineSealed,
    /// A command line whose quotes would swallow the seal.
    #[error(
        "`cmdline` has a quote that is not closed, and the kernel would take the seal behind it for a part of it. Close it."
    )]
    CommandLineQuote,
    /// A word on the command line that `/init` does not take.
    #[error("`cmdline` has `{word}`, which `/init` does not take: it must be {must_be}.")]
    Word {
        /// The word.
        word: String,
        /// What may stand there.
        must_be: &'static str,
    },
    /// A UKI that was made before and seals another image.
    #[error(
        "`{}` seals composefs image {sealed}, and this root makes {made}. Make the UKI anew with `composefs={made}` on its command line.",
        path.display()
    )]
    UkiSealsAnother {
        /// The UKI.
        path: PathBuf,
        /// What it seals.
        sealed: String,
        /// What it should.
        made: String,
    },
    /// A UKI that was made before and seals nothing that can be read.
    #[error("`{}` cannot seal this root: the UKI {fault}.", path.display())]
    UkiUnsealed {
        /// The UKI.
        path: PathBuf,
        /// What is wrong with it.
        fault: twinseal_core::error::UkiFault,
    },
    /// No os-release in the recipe, and none in the root.
    #[error("The root has no usable `usr/lib/os-release` or `etc/os-release`. Give `os-release`.")]
    OsReleaseMissing,
    /// A file that is larger than it can sensibly be.
    #[error("`{}` is larger than {limit_bytes} bytes, the most for a {what}.", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// A file that must be text and is not.
    #[error("`{}` is not text in UTF-8, which a {what} is.", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
    },
    /// An empty image.
    #[error("The image for slot `{0}` is empty. Leave it out or give its content.")]
    ImageEmpty(String),
    /// A base for other devices.
    #[error(
        "The base `{}` is for `{found}`, not for this bundle's devices. Leave it out or give a release of theirs.",
        path.display()
    )]
    BaseCompatible {
        /// Its bundle.
        path: PathBuf,
        /// Its device type.
        found: String,
    },
    /// A base that holds no objects.
    #[error("The base `{}` has no root, so devices that hold it have nothing that could be left out. Leave it out.", .0.display())]
    BaseWithoutRoot(PathBuf),
    /// A base that is given twice.
    #[error("The base `{}` is the same release as one before it. Give each once.", .0.display())]
    BaseTwice(PathBuf),
    /// More of something than a manifest takes.
    #[error("The bundle would have more than {limit} {what}. Split it or leave some out.")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}
