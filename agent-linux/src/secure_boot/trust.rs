//! The verdict over an image, by the rules of EDK2's `DxeImageVerificationLib`, which most firmware is made of.
//!
//! 1. An image whose hash is in `dbx` is refused; one whose attribute certificate table is damaged too.
//! 2. A signature counts when it is of this image, its signer's key made it, and its signer's certificate is in `db` or issued by
//!    one of `db`, through certificates of its message.
//! 3. A signature by a certificate of `dbx`, below one, or with one on its way whose hash is there, refuses the image, whoever else
//!    signed it.
//! 4. One signature that counts is enough; so is the image's hash in `db`.

use super::certificate::Certificate;
use super::image::{Image, ImageFault};
use super::lists::Lists;
use super::message::{Message, MessageFault};
use std::fmt;

/// What the firmware trusts and what it refuses.
#[derive(Clone, Debug)]
pub struct Trust {
    trusted: Vec<Certificate>,
    revoked: Vec<Certificate>,
    /// Certificates of `db` that cannot be read here.
    unreadable: usize,
    trusted_images: Vec<[u8; 32]>,
    revoked_images: Vec<[u8; 32]>,
    revoked_hashes: Vec<[u8; 32]>,
}

/// What is wrong with an image or one of its signatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// It has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// It is not an image that the firmware loads.
    #[error("{0}")]
    Image(#[from] ImageFault),
    /// The attribute certificate table is damaged.
    #[error("the table of its signatures is damaged")]
    Table,
    /// Its hash is in `dbx`.
    #[error("its hash is among those that the firmware refuses (dbx)")]
    RevokedImage,
    /// A signature cannot be judged.
    #[error("a signature of it cannot be judged: {0}")]
    Message(#[from] MessageFault),
    /// The image is not what was signed.
    #[error("it was altered after \"{signer}\" had signed it")]
    Altered {
        /// Subject of the signer.
        signer: String,
    },
    /// The signature is not by the key of the certificate that it names.
    #[error("its signature is not by the key of \"{signer}\", whom it names")]
    Forged {
        /// Subject of the signer.
        signer: String,
    },
    /// The signer is revoked.
    #[error("it is signed by \"{signer}\", and the firmware has revoked \"{revoked}\" (dbx)")]
    Revoked {
        /// Subject of the signer.
        signer: String,
        /// Subject of the certificate in `dbx`, or whose hash is there.
        revoked: String,
    },
    /// Nobody whom the firmware trusts has signed it.
    #[error("it is signed by \"{signer}\", whom the firmware does not trust")]
    Stranger {
        /// Subject of the signer.
        signer: String,
    },
}

/// Why the firmware would refuse an image, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was found, one for each signature.
    pub findings: Vec<Finding>,
    /// Subjects of the certificates in `db`.
    pub trusted: Vec<String>,
    /// Certificates of `db` that cannot be read here.
    pub unreadable: usize,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let findings: Vec<String> = self.findings.iter().map(Finding::to_string).collect();
        write!(
            f,
            "Secure Boot is on, and this machine's firmware would not start the UKI: {}. ",
            findings.join("; ")
        )?;
        if self.trusted.is_empty() {
            f.write_str("The firmware trusts no certificate (db)")?;
        } else {
            write!(
                f,
                "The firmware trusts (db): \"{}\"",
                self.trusted.join("\", \"")
            )?;
        }
        if self.unreadable > 0 {
            write!(f, ", and {} that cannot be read here", self.unreadable)?;
        }
        f.write_str(".")
    }
}

impl Trust {
    /// What two signature databases say. A certificate of `db` that cannot be read trusts nobody, as in the firmware.
    pub(super) fn new(db: &Lists, dbx: &Lists) -> Self {
        let read = |lists: &Lists| -> Vec<Certificate> {
            let certificates = lists.certificates.iter();
            certificates
                .filter_map(|bytes| Certificate::parse(bytes))
                .collect()
        };
        let trusted = read(db);
        Self {
            unreadable: db.certificates.len() - trusted.len(),
            trusted,
            revoked: read(dbx),
            trusted_images: db.images.clone(),
            revoked_images: dbx.images.clone(),
            revoked_hashes: dbx.certificate_hashes.clone(),
        }
    }

    /// Whether the firmware would start an image.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn judge(&self, image: &Image) -> Result<(), Refusal> {
        if !image.table_is_whole {
            return Err(self.refusal(vec![Finding::Table]));
        }
        if self.revoked_images.contains(&image.digest) {
            return Err(self.refusal(vec![Finding::RevokedImage]));
        }
        let mut good = self.trusted_images.contains(&image.digest);
        let mut findings = Vec::new();
        for signature in &image.signatures {
            match self.judge_signature(signature, &image.digest) {
                Ok(()) => good = true,
                Err(revoked @ Finding::Revoked { .. }) => {
                    return Err(self.refusal(vec![revoked]));
                }
                Err(finding) => findings.push(finding),
            }
        }
        if image.signatures.is_empty() {
            findings.push(Finding::Unsigned);
        }
        if good {
            Ok(())
        } else {
            Err(self.refusal(findings))
        }
    }

    /// The refusal of an image for these reasons.
    pub fn refusal(&self, findings: Vec<Finding>) -> Refusal {
        Refusal {
            findings,
            trusted: self.trusted.iter().map(Certificate::subject).collect(),
            unreadable: self.unreadable,
        }
    }

    fn judge_signature(&self, signature: &[u8], digest: &[u8; 32]) -> Result<(), Finding> {
        let message = Message::parse(signature)?;
        let certificate = message.signer().ok_or(MessageFault::NoSigner)?;
        let signer = certificate.subject();
        if message.file_digest != *digest {
            return Err(Finding::Altered { signer });
        }
        if !message.is_signed_by(certificate) {
            return Err(Finding::Forged { signer });
        }
        let chain = chain(certificate, &message.certificates);
        let hashed = chain.iter().find(|one| self.is_revoked_by_hash(one));
        if let Some(revoked) = hashed.copied().or_else(|| root(&chain, &self.revoked)) {
            let revoked = revoked.subject();
            return Err(Finding::Revoked { signer, revoked });
        }
        let mut trusted = self.trusted.iter();
        let found = trusted.find(|one| !self.is_revoked_by_hash(one) && leads_to(&chain, one));
        found.map(|_| ()).ok_or(Finding::Stranger { signer })
    }

    fn is_revoked_by_hash(&self, certificate: &Certificate) -> bool {
        self.revoked_hashes.contains(&certificate.signed_sha256())
    }
}

/// The signer and everyone in the message who stands above, each once.
fn chain<'c>(signer: &'c Certificate, message: &'c [Certificate]) -> Vec<&'c Certificate> {
    let mut chain = vec![signer];
    let mut next = 0;
    while let Some(certificate) = chain.get(next).copied() {
        next += 1;
        for above in message {
            let is_new = chain.iter().all(|known| known.bytes() != above.bytes());
            if is_new && certificate.is_issued_by(above) {
                chain.push(above);
            }
        }
    }
    chain
}

/// The first of `roots` that a chain leads to.
fn root<'c>(chain: &[&Certificate], roots: &'c [Certificate]) -> Option<&'c Certificate> {
    roots.iter().find(|root| leads_to(chain, root))
}

/// Whether a certificate is in a chain or has issued one that is.
fn leads_to(chain: &[&Certificate], root: &Certificate) -> bool {
    chain
        .iter()
        .any(|one| one.bytes() == root.bytes() || one.is_issued_by(root))
}
