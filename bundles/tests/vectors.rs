//! Every vector of the conformance kit gets the answer that the kit says, from a file and from a stream.

use std::collections::BTreeSet;

use twinseal_bundle::error::Error;
use twinseal_bundle::exit::{error_name, exit_code_of};
use twinseal_bundle::vectors;
use twinseal_bundle::verify::{Report, verify, verify_stream};

fn answer(result: Result<Report, Error>) -> Option<String> {
    match result {
        Ok(_) => None,
        Err(Error::Bundle(error)) => Some(error_name(&error)),
        Err(other) => Some(other.to_string()),
    }
}

#[test]
fn every_vector_gets_its_answer() {
    let directory = tempfile::tempdir().unwrap();
    let all = vectors::all().unwrap();
    let mut wrong = Vec::new();
    for vector in &all {
        let path = directory.path().join(vector.name);
        std::fs::write(&path, &vector.bundle).unwrap();
        let expected = vector.refusal.as_ref().map(error_name);
        let found = answer(verify(&path, &vectors::device()));
        if found != expected {
            wrong.push(format!(
                "{} (file): {found:?} instead of {expected:?}",
                vector.name
            ));
        }
        let streamed = vector.stream_refusal.as_ref().map(error_name).or(expected);
        let found = answer(verify_stream(vector.bundle.as_slice(), &vectors::device()));
        if found != streamed {
            wrong.push(format!(
                "{} (stream): {found:?} instead of {streamed:?}",
                vector.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused = all.iter().filter(|vector| vector.refusal.is_some()).count();
    assert!(
        refused >= 30 && all.len() - refused >= 10,
        "{refused} of {}",
        all.len()
    );
    println!("{} vectors, {refused} of them bad", all.len());
}

#[test]
fn names_are_unique_and_every_bad_bundle_differs_from_every_other() {
    let all = vectors::all().unwrap();
    let names: BTreeSet<_> = all.iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), all.len());
    let bundles: BTreeSet<_> = all.iter().map(|vector| &vector.bundle).collect();
    assert_eq!(bundles.len(), all.len(), "a change that changes nothing");
}

#[test]
fn the_kit_is_written_whole_and_the_same_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));
    let count = vectors::write(&first).unwrap();
    assert_eq!(vectors::write(&second).unwrap(), count);
    let list = |path: &std::path::Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect::<BTreeSet<_>>()
    };
    let files = list(&first);
    assert_eq!(files.len(), count + 3, "the vectors, two keys, the list");
    assert!(files == list(&second), "the kit must be the same each time");
    let text = std::fs::read_to_string(first.join("vectors.toml")).unwrap();
    let parsed: toml::Table = text.parse().unwrap();
    let entries = parsed["vector"].as_array().unwrap();
    assert_eq!(entries.len(), count);
    for entry in entries {
        let accepted = entry["accepted"].as_bool().unwrap();
        assert_eq!(accepted, entry.get("error").is_none());
        assert_eq!(accepted, entry.get("exit-code").is_none());
    }
}

#[test]
fn exit_codes_follow_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let all = vectors::all().unwrap();
    for (name, code) in [
        ("seal-statement", 21),
        ("uki-seals-another", 22),
        ("manifest-changed", 23),
        ("data-damaged", 20),
        ("unknown-signer", 30),
        ("other-compatible", 31),
        ("below-floor", 32),
        ("not-yet-valid", 33),
        ("expired", 34),
        ("slot-unknown", 35),
        ("slot-too-small", 35),
    ] {
        let vector = all.iter().find(|vector| vector.name == name).unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, &vector.bundle).unwrap();
        let error = verify(&path, &vectors::device()).unwrap_err();
        assert_eq!(exit_code_of(&error), code, "{name}");
    }
}
