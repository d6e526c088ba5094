//! Release keys: made here, kept by their owner, readable by openssl.
//!
//! A private key is Ed25519 in PKCS#8 (RFC 8410) as PEM, a public one a SubjectPublicKeyInfo as PEM; `openssl genpkey -algorithm
//! ed25519` and `openssl pkey -pubout` make the same files. The code is that of `ed25519-compact`, which core checks signatures
//! with: one implementation for both sides, and it reads and writes these files itself.
//!
//! # Invariants
//! - A private key file is made with mode 0600 and never overwritten.
//! - No signature leaves this module that was not checked with the public key.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_compact::KeyPair;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::signatures::{ALGORITHM_ED25519, KEY_ID_BYTES, KeyId, key_id};
use twinseal_core::wire::text::Name;

use crate::error::{Error, FileOperation};

/// Bytes of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_BYTES: usize = 64;

/// Longest key file that is read. Stops a wrong path from filling the memory.
const KEY_FILE_MAX_BYTES: u64 = 64 * 1024;

/// Why a key or a signature cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key of the one kind that is used.
    #[error("`{}` is not an Ed25519 private key in PEM (PKCS#8). `keygen` or `openssl genpkey -algorithm ed25519` makes one.", .0.display())]
    NotPrivate(PathBuf),
    /// An encrypted private key.
    #[error(
        "`{}` is encrypted. Decrypt it with `openssl pkey`, or sign elsewhere: `sign --print-signed-bytes`, then `sign --attach`.",
        .0.display()
    )]
    Encrypted(PathBuf),
    /// Not a public key of the one kind that is used.
    #[error("`{}` is not an Ed25519 public key in PEM. `openssl pkey -pubout` makes one from a private key.", .0.display())]
    NotPublic(PathBuf),
    /// A public key that anybody could sign for.
    #[error("The public key in `{}` is a weak point of the curve: anybody could sign for it. Make a new key.", .0.display())]
    Weak(PathBuf),
    /// The name of a new key is not a plain name.
    #[error(
        "`{0}` is not a name for a key: use small letters, digits, `.`, `_` and `-`, and begin with a letter or digit."
    )]
    Name(String),
    /// A signature of another length.
    #[error(
        "A signature has {SIGNATURE_BYTES} bytes and this one has {0}. Give it as it is, not in hex or PEM."
    )]
    SignatureLength(usize),
    /// A signature that is not by the given key over this bundle.
    #[error(
        "The signature is not by key {} over this bundle. Sign what `sign --print-signed-bytes` prints, unhashed.",
        key_id_text(.0)
    )]
    SignatureWrong(KeyId),
}

/// A private key.
pub struct SigningKey(KeyPair);

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(ed25519_compact::PublicKey);

impl SigningKey {
    /// A new key from the system's randomness.
    pub fn generate() -> Self {
        Self(KeyPair::generate())
    }

    /// The key whose seed is `seed`: for tests and the conformance kit, never for releases.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(KeyPair::from_seed(ed25519_compact::Seed::new(seed)))
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`KeyError`] when it holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pem = read_text(path)
            .map_err(|error| error.unwrap_or(KeyError::NotPrivate(path.to_owned()).into()))?;
        if pem.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted(path.to_owned()).into());
        }
        Ok(KeyPair::from_pem(&pem)
            .map(Self)
            .map_err(|_| KeyError::NotPrivate(path.to_owned()))?)
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.pk)
    }

    /// Signs `message`. The same message gives the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        *self.0.sk.sign(message, None)
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        self.0.sk.to_pem()
    }
}

impl fmt::Debug for SigningKey {
    /// Never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", key_id_text(&self.public().id()))
    }
}

impl PublicKey {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`KeyError`] when it holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pem = read_text(path)
            .map_err(|error| error.unwrap_or(KeyError::NotPublic(path.to_owned()).into()))?;
        let key = ed25519_compact::PublicKey::from_pem(&pem)
            .map_err(|_| KeyError::NotPublic(path.to_owned()))?;
        key.validate()
            .map_err(|_| KeyError::Weak(path.to_owned()))?;
        Ok(Self(key))
    }

    /// Its bytes (RFC 8032, section 5.1.5).
    pub fn to_bytes(&self) -> [u8; 32] {
        *self.0
    }

    /// The key as core trusts it.
    pub fn trusted(&self) -> TrustedKey {
        TrustedKey::ed25519(*self.0)
    }

    /// Its short name.
    pub fn id(&self) -> KeyId {
        key_id(ALGORITHM_ED25519, self.0.as_slice())
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        self.0.to_pem()
    }

    /// Whether `signature` is by this key over `message`.
    ///
    /// # Errors
    /// [`KeyError::SignatureLength`] or [`KeyError::SignatureWrong`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let signature = ed25519_compact::Signature::from_slice(signature)
            .map_err(|_| KeyError::SignatureLength(signature.len()))?;
        self.0
            .verify(message, &signature)
            .map_err(|_| KeyError::SignatureWrong(self.id()))
    }
}

/// A key pair that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// The private key.
    pub private: PathBuf,
    /// The public key.
    pub public: PathBuf,
    /// Its short name.
    pub id: KeyId,
}

/// Makes a key pair: `NAME.key` and `NAME.pub` in `directory`, which is made when it is not there.
///
/// # Errors
/// When `name` is not a plain name, or one of the files exists or cannot be written.
pub fn generate_into(directory: &Path, name: &str) -> Result<KeyFiles, Error> {
    let name = Name::new(name).ok_or_else(|| KeyError::Name(name.to_owned()))?;
    std::fs::create_dir_all(directory).map_err(FileOperation::Create.on(directory))?;
    let key = SigningKey::generate();
    let private = directory.join(format!("{name}.key"));
    let public = directory.join(format!("{name}.pub"));
    create_new(&private, 0o600, key.to_pem().as_bytes())?;
    if let Err(error) = create_new(&public, 0o644, key.public().to_pem().as_bytes()) {
        // A private key without its public one would only be in the way of the next try.
        let _ = std::fs::remove_file(&private);
        return Err(error);
    }
    Ok(KeyFiles {
        private,
        public,
        id: key.public().id(),
    })
}

fn create_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = file.map_err(FileOperation::Create.on(path))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(FileOperation::Write.on(path))
}

/// A key id in hex.
pub fn key_id_text(id: &KeyId) -> String {
    id.iter()
        .fold(String::with_capacity(2 * KEY_ID_BYTES), |text, byte| {
            format!("{text}{byte:02x}")
        })
}

/// The text of a small file; `Err(None)` when it is not text or not small.
fn read_text(path: &Path) -> Result<String, Option<Error>> {
    use std::io::Read;
    let file =
        std::fs::File::open(path).map_err(|error| Some(FileOperation::Open.on(path)(error)))?;
    let mut bytes = Vec::new();
    let read = file.take(KEY_FILE_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Some(FileOperation::Read.on(path)(error)))?;
    if bytes.len() as u64 > KEY_FILE_MAX_BYTES {
        return Err(None);
    }
    String::from_utf8(bytes).map_err(|_| None)
}
