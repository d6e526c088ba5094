//! Manifests and signatures that break the rules. All but the forged ones are signed by a trusted key: the maker's mistakes.

use twinseal_core::error::{BundleInvalid, Field, Part};
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm};
use twinseal_core::wire::index::Role;
use twinseal_core::wire::manifest::{Manifest, PayloadKind};
use twinseal_core::wire::signatures::SIGNED_CONTEXT;
use twinseal_core::wire::{
    FORMAT_VERSION, MANIFEST_MAX_BYTES, RANGE_MAX_BYTES, SIGNATURES_MAX_COUNT, ZSTD_WINDOW_LOG_MAX,
};

use super::draft::{archive_of, entries_of};
use super::{Base, Vector, first_key, flip, refused, second_key};
use crate::sign::{OwnedSignature, sign_manifest};

pub(super) fn vectors(base: &Base<'_>) -> Vec<Vector> {
    let mut vectors = fields(base);
    vectors.extend(encodings(base));
    vectors.extend(signatures(base));
    vectors
}

fn fields(base: &Base<'_>) -> Vec<Vector> {
    let broken = |name, what, field, change: fn(&mut Manifest)| {
        refused(
            name,
            what,
            BundleInvalid::Field { field },
            base.with_manifest(change),
        )
    };
    let other = BlobDigest::sha256([0xee; 32]);
    vec![
        refused(
            "seal-statement",
            "the manifest seals another composefs image than it carries",
            BundleInvalid::SealStatement,
            base.with_manifest(|manifest| manifest.seal = Some(other)),
        ),
        refused(
            "seal-absent",
            "the manifest seals nothing",
            BundleInvalid::SealStatement,
            base.with_manifest(|manifest| manifest.seal = None),
        ),
        broken(
            "window-reversed",
            "the window ends before it begins",
            Field::Window,
            |manifest| {
                manifest.window.not_after = Some(manifest.window.not_before - 1);
            },
        ),
        broken(
            "payload-twice",
            "the same payload stands there twice",
            Field::Payloads,
            |manifest| {
                let first = manifest.payloads.first().cloned();
                // Three of sixteen.
                manifest.payloads.extend(first);
            },
        ),
        broken(
            "payloads-none",
            "there is nothing to install",
            Field::Payloads,
            |manifest| {
                manifest.payloads.clear();
                manifest.seal = None;
            },
        ),
        broken(
            "payload-empty",
            "a payload has no bytes",
            Field::Payloads,
            |manifest| {
                manifest
                    .payloads
                    .iter_mut()
                    .for_each(|payload| payload.size = 0);
            },
        ),
        broken(
            "composefs-without-uki",
            "there is a composefs image and no UKI",
            Field::Payloads,
            |manifest| {
                manifest
                    .payloads
                    .retain(|payload| payload.kind != PayloadKind::Uki);
            },
        ),
        broken(
            "routes-none",
            "the index has no route",
            Field::Routes,
            |manifest| manifest.routes.clear(),
        ),
        broken(
            "route-not-full",
            "the first route is for a base release",
            Field::Routes,
            |manifest| {
                manifest
                    .routes
                    .iter_mut()
                    .for_each(|route| route.base = Some([0xba; 32]));
            },
        ),
        broken(
            "data-part-empty",
            "a data part has no bytes",
            Field::DataParts,
            |manifest| {
                manifest.data_parts.iter_mut().for_each(|part| *part = 0);
            },
        ),
        broken(
            "data-none",
            "there is no data for payloads that have bytes",
            Field::DataParts,
            |manifest| {
                manifest.data_parts.clear();
            },
        ),
        broken(
            "needs-range",
            "it needs a larger buffer than the format allows",
            Field::Needs,
            |manifest| {
                manifest.needs.range_bytes = RANGE_MAX_BYTES + 1;
            },
        ),
        broken(
            "needs-window",
            "it needs a larger zstd window than the format allows",
            Field::Needs,
            |manifest| {
                manifest.needs.zstd_window_log = ZSTD_WINDOW_LOG_MAX + 1;
            },
        ),
        refused(
            "info-twice",
            "two info entries have one name",
            BundleInvalid::Field { field: Field::Info },
            base.with_draft(|draft| {
                let first = draft.manifest.info.first().cloned();
                // One of eight.
                draft.manifest.info.extend(first);
                draft.info.extend_from_within(..1);
            }),
        ),
        refused(
            "sha512",
            "the composefs image has a SHA-512 digest, which no reader of this version can check",
            BundleInvalid::AlgorithmUnsupported,
            sha512(base),
        ),
    ]
}

fn sha512(base: &Base<'_>) -> Vec<u8> {
    let Some(digest) = BlobDigest::new(DigestAlgorithm::Sha512, &[0x51; 64]) else {
        return Vec::new();
    };
    base.with_draft(|draft| {
        draft.manifest.seal = Some(digest);
        for payload in &mut draft.manifest.payloads {
            if matches!(payload.kind, PayloadKind::Composefs { .. }) {
                payload.digest = digest;
            }
        }
        for blob in super::index::blobs_mut(&mut draft.records) {
            if blob.role == Role::Composefs {
                blob.digest = digest;
            }
        }
    })
}

fn encodings(base: &Base<'_>) -> Vec<Vector> {
    let unreadable = BundleInvalid::Unreadable {
        part: Part::Manifest,
    };
    let mut large = base.draft.clone().index().manifest_entry();
    large.resize(MANIFEST_MAX_BYTES + 1, 0);
    vec![
        refused(
            "format-next",
            "it has the next format version",
            BundleInvalid::FormatUnsupported {
                found: FORMAT_VERSION + 1,
            },
            base.with_manifest(|manifest| manifest.format = FORMAT_VERSION + 1),
        ),
        refused(
            "manifest-trailing",
            "a byte follows the manifest",
            unreadable,
            base.with_manifest_bytes(|bytes| bytes.push(0)),
        ),
        refused(
            "manifest-short",
            "the manifest's last byte is missing",
            unreadable,
            base.with_manifest_bytes(|bytes| bytes.truncate(bytes.len() - 1)),
        ),
        refused(
            "manifest-overlong",
            "the format version is written with two bytes where one would do",
            unreadable,
            base.with_manifest_bytes(|bytes| {
                drop(bytes.splice(..1, [0x80 | FORMAT_VERSION as u8, 0x00]))
            }),
        ),
        refused(
            "manifest-capital",
            "the device type has a capital letter",
            unreadable,
            base.with_manifest_bytes(|bytes| {
                replace(bytes, b"twinseal-vector", b"Twinseal-vector")
            }),
        ),
        refused(
            "slot-path",
            "the slot's name is a path",
            unreadable,
            base.with_manifest_bytes(|bytes| replace(bytes, b"firmware", b"../../fw")),
        ),
        refused(
            "info-path",
            "an info entry's name is a path",
            unreadable,
            base.with_manifest_bytes(|bytes| replace(bytes, b"notes.txt", b"../no.txt")),
        ),
        refused(
            "version-control-character",
            "the version would move the cursor of a terminal",
            unreadable,
            base.with_manifest_bytes(|bytes| replace(bytes, b"1.0", b"\x1b[A")),
        ),
        refused(
            "manifest-large",
            "the manifest is a byte over its limit",
            BundleInvalid::TooLarge {
                part: Part::Manifest,
            },
            replace_entry(base, 0, large),
        ),
        refused(
            "manifest-empty",
            "the manifest has no bytes",
            unreadable,
            replace_entry(base, 0, Vec::new()),
        ),
    ]
}

fn signatures(base: &Base<'_>) -> Vec<Vector> {
    let framed = base.draft.clone().index();
    let manifest = framed.manifest_entry();
    let (first, second) = (first_key(), second_key());
    let wrong = |key: &crate::keys::SigningKey| BundleInvalid::SignatureWrong {
        key: key.public().id(),
    };
    let good = sign_manifest(&first, &manifest);
    let with = |list: &[OwnedSignature]| framed.with_entries(&manifest, list);
    let forged = OwnedSignature {
        bytes: second.sign(&manifest).to_vec(),
        ..sign_manifest(&second, &manifest)
    };
    let bare = OwnedSignature {
        bytes: first.sign(&manifest).to_vec(),
        ..good.clone()
    };
    let twice = [SIGNED_CONTEXT, SIGNED_CONTEXT, &manifest].concat();
    let twice = OwnedSignature {
        bytes: first.sign(&twice).to_vec(),
        ..good.clone()
    };
    let short = OwnedSignature {
        bytes: good.bytes.get(..63).unwrap_or(&[]).to_vec(),
        ..good.clone()
    };
    vec![
        refused(
            "manifest-changed",
            "a byte of the manifest was changed after signing",
            wrong(&first),
            {
                let mut changed = manifest.clone();
                let last = changed.len() - 1;
                flip(&mut changed, last);
                framed.with_entries(&changed, std::slice::from_ref(&good))
            },
        ),
        refused(
            "signature-without-context",
            "the signature is over the manifest alone",
            wrong(&first),
            with(&[bare]),
        ),
        refused(
            "signature-context-twice",
            "the signature is over the context twice",
            wrong(&first),
            with(&[twice]),
        ),
        refused(
            "signature-short",
            "the signature has 63 bytes",
            wrong(&first),
            with(&[short]),
        ),
        refused(
            "signature-one-forged",
            "one trusted key's signature is right and the other's wrong",
            wrong(&second),
            with(&[good.clone(), forged]),
        ),
        refused(
            "signatures-damaged",
            "a byte of the signatures was changed",
            BundleInvalid::Damaged {
                part: Part::Signatures,
            },
            base.with_bytes(|bundle| replace(bundle, &good.bytes, &[0x55; 64])),
        ),
        refused(
            "signatures-many",
            "it has one signature more than the format allows",
            BundleInvalid::Unreadable {
                part: Part::Signatures,
            },
            replace_entry(base, 1, many_signatures(&good)),
        ),
        refused(
            "signatures-trailing",
            "a byte follows the list of signatures",
            BundleInvalid::Unreadable {
                part: Part::Signatures,
            },
            replace_entry(base, 1, with_digest(b"\0\0")),
        ),
    ]
}

/// An entry of `signatures` with one more than there may be: postcard's count, then the same signature again and again.
fn many_signatures(signature: &OwnedSignature) -> Vec<u8> {
    let mut one = signature.key.to_vec();
    one.extend([signature.algorithm, signature.bytes.len() as u8]);
    one.extend_from_slice(&signature.bytes);
    let count = SIGNATURES_MAX_COUNT + 1;
    let mut list = vec![count as u8];
    list.extend(one.repeat(count));
    with_digest(&list)
}

/// A `signatures` entry of this list.
fn with_digest(list: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    [Sha256::digest(list).as_slice(), list].concat()
}

/// The bundle with other content in one entry; headers and padding fit.
fn replace_entry(base: &Base<'_>, number: usize, content: Vec<u8>) -> Vec<u8> {
    let mut entries = entries_of(&base.bundle);
    entries
        .iter_mut()
        .skip(number)
        .take(1)
        .for_each(|entry| entry.1 = content.clone());
    archive_of(&entries)
}

/// Replaces the first place where `old` stands; both are of one length.
fn replace(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let found = bytes.windows(old.len()).position(|window| window == old);
    if let Some(start) = found {
        bytes.splice(start..start + old.len(), new.iter().copied());
    }
}
