use super::*;
use crate::tamper::{Set, Tamper};

const GOOD: &str = r#"
name = "small"
shows = "It can be read."
needs = ["uefi", "power-cut", "tampering"]
start = "armed-v2"

[cuts]
count = 3
within-ms = 500
before = [{ do = "power-on" }]

[[step]]
do = "power-on"

[[step]]
do = "tamper"
with = { kind = "flip-object", set = "b", file = "/x" }

[[step]]
do = "expect"
running = "b"
seal = ["v1", "v2"]
settled = true
"#;

fn read(text: &str) -> Result<Scenario, ScenarioError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    fs::write(&file, text).unwrap();
    Scenario::read(&file)
}

#[test]
fn a_scenario_is_read() {
    let scenario = read(GOOD).unwrap();
    assert_eq!(scenario.start, Start::Armed(Bundle::V2));
    let [
        Step::PowerOn {},
        Step::Tamper { with },
        Step::Expect(expect),
    ] = scenario.steps.as_slice()
    else {
        panic!("{scenario:?}");
    };
    assert_eq!(
        *with,
        Tamper::FlipObject {
            set: Set::B,
            file: "/x".into()
        }
    );
    assert_eq!(expect.to_string(), "running b, seal of v1 or v2, settled");
    assert_eq!(scenario.cuts.unwrap().count, 3);
}

#[test]
fn a_typing_mistake_anywhere_is_an_error() {
    for (right, wrong) in [
        ("shows =", "show ="),
        ("\"uefi\"", "\"uefy\""),
        ("armed-v2", "armed-v9"),
        ("do = \"power-on\"\n", "do = \"power-up\"\n"),
        ("do = \"power-on\"\n", "do = \"power-on\"\nlimit = 3\n"),
        ("running = \"b\"", "runing = \"b\""),
        ("running = \"b\"", "running = \"c\""),
        ("flip-object", "flip-objects"),
        ("file = \"/x\"", "file = \"/x\", by = \"/y\""),
        ("within-ms = 500", "within-ms = 500\nevery = 3"),
    ] {
        assert!(GOOD.contains(right), "{right}");
        let error = read(&GOOD.replacen(right, wrong, 1)).unwrap_err();
        assert!(
            matches!(error, ScenarioError::Syntax { .. }),
            "{wrong}: {error}"
        );
        assert!(error.to_string().contains("small.toml"), "{error}");
    }
}

#[test]
fn what_does_not_go_together_is_an_error() {
    for (right, wrong, words) in [
        ("\"small\"", "\"other\"", "called as its file"),
        ("count = 3", "count = 0", "count above 0"),
        (
            "before = [{ do = \"power-on\" }]",
            "before = []",
            "steps before",
        ),
        (", \"power-cut\"", "", "need power-cut"),
        (", \"tampering\"", "", "need tampering"),
        (
            "armed-v2\"",
            "trying-v2\"\noffline = true",
            "is on at the start",
        ),
        (
            "armed-v2\"",
            "running-v1\"\nstick = \"v2\"",
            "is on at the start",
        ),
        (
            "do = \"power-on\" }",
            "do = \"power-on\" }, { do = \"plug-in\" }",
            "what is plugged in",
        ),
    ] {
        let error = read(&GOOD.replacen(right, wrong, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{wrong}: {error}");
    }
}

#[test]
fn a_board_that_is_on_can_be_cut_off_at_once() {
    let without = GOOD.replacen("before = [{ do = \"power-on\" }]\n", "", 1);
    let error = read(&without).unwrap_err().to_string();
    assert!(error.contains("steps before"), "{error}");
    let on = without.replacen("armed-v2", "trying-v2", 1);
    assert!(read(&on).unwrap().start.is_on());
}

#[test]
fn a_start_is_called_as_it_is_shown() {
    for name in [
        "factory",
        "factory-both",
        "committed-v1",
        "committed-v2",
        "armed-sick",
        "running-v1",
        "running-armed-v2",
        "trying-v3",
    ] {
        let start = Start::try_from(name.to_owned()).unwrap();
        assert_eq!(start.to_string(), name);
        let is_on = name.starts_with("running") || name.starts_with("trying");
        assert_eq!(start.is_on(), is_on, "{name}");
    }
    for name in ["running", "running-v2", "running-armed-v1-x", "trying-"] {
        assert!(Start::try_from(name.to_owned()).is_err(), "{name}");
    }
}

#[test]
fn a_link_is_read_and_its_steps_need_one() {
    let with = GOOD.replacen(
        "[cuts]",
        "[link]\ncut = { every-bytes = 200000 }\n\n[cuts]",
        1,
    ) + "\n[[step]]\ndo = \"link\"\ncuts-at-least = 3\n";
    let error = read(&with).unwrap_err().to_string();
    assert!(error.contains("need network"), "{error}");
    let with = with.replacen("\"uefi\"", "\"uefi\", \"network\"", 1);
    let scenario = read(&with).unwrap();
    let cut = scenario.link.unwrap().cut.unwrap();
    assert_eq!(cut.every_bytes.get(), 200_000);
    let error = read(&with.replacen("every-bytes", "every-byte", 1)).unwrap_err();
    assert!(matches!(error, ScenarioError::Syntax { .. }), "{error}");
    let without = with.replacen("[link]\ncut = { every-bytes = 200000 }", "", 1);
    let error = read(&without).unwrap_err().to_string();
    assert!(error.contains("has none"), "{error}");
}

#[test]
fn needs_are_compared_with_what_a_board_has() {
    let scenario = read(GOOD).unwrap();
    assert_eq!(
        scenario.lacks(crate::boards::uefi::Processor::X86_64.has()),
        []
    );
    let lacks = scenario.lacks(&[Need::Uefi, Need::Network]);
    assert_eq!(lacks, [Need::PowerCut, Need::Tampering]);
}

#[test]
fn every_scenario_of_the_project_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let scenarios = read_all(&[folder], None).unwrap();
    assert!(scenarios.len() >= 20, "{}", scenarios.len());
    let mut names: Vec<_> = scenarios.iter().map(|scenario| &scenario.name).collect();
    names.dedup();
    assert_eq!(names.len(), scenarios.len());
}

#[test]
fn a_scenario_asks_for_a_loader_and_takes_releases() {
    let scenario = read(GOOD).unwrap();
    assert_eq!(scenario.loader, Loader::Uefi);
    let takes = |scenario: &Scenario| {
        let mut bundles = Bundle::ALL.to_vec();
        bundles.retain(|bundle| scenario.takes(*bundle));
        bundles
    };
    assert_eq!(takes(&scenario), [Bundle::V1, Bundle::V2]);
    let other = GOOD
        .replacen("start = \"armed-v2\"", "start = \"factory\"\nloader = \"systemd-boot\"", 1)
        .replacen(
            "do = \"expect\"",
            "do = \"run\"\ncommand = \"twinseal install http://10.0.2.100/systemd-boot/stranger.tseal\"\n\n[[step]]\ndo = \"expect\"",
            1,
        );
    let scenario = read(&other).unwrap();
    assert_eq!(scenario.loader, Loader::SystemdBoot);
    assert_eq!(takes(&scenario), [Bundle::V1, Bundle::Stranger]);
    assert!(read(&other.replacen("\"systemd-boot\"", "\"grub\"", 1)).is_err());
}

#[test]
fn a_folder_without_scenarios_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = read_all(&[folder.path().to_owned()], None).unwrap_err();
    assert!(matches!(error, ScenarioError::None { .. }), "{error}");
}
