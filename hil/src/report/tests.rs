use super::*;

fn result(name: &str, outcome: Outcome) -> ScenarioResult {
    let failure = matches!(outcome, Outcome::Failed(_)).then(|| "no".to_owned());
    let step = StepResult {
        title: "run `a < b`".into(),
        elapsed: Duration::from_millis(1500),
        failure,
        output: "1 & 2".into(),
        console: ["<boot>", "twinseal: init: sealed root mounted in 0.125 s\r"]
            .map(|text| Line {
                at: Duration::from_millis(2250),
                text: text.into(),
                complete: true,
            })
            .to_vec(),
    };
    ScenarioResult {
        name: name.into(),
        shows: "It shows \"something\".".into(),
        steps: if matches!(outcome, Outcome::Skipped(_)) {
            Vec::new()
        } else {
            vec![step]
        },
        outcome,
        cuts: 2,
        late_cuts: u32::from(name == "good"),
        elapsed: Duration::from_millis(2500),
    }
}

fn report() -> Report {
    Report {
        board: "uefi".into(),
        machine: "QEMU".into(),
        seed: 7,
        elapsed: Duration::from_secs(9),
        results: vec![
            result("good", Outcome::Passed),
            result(
                "wrong",
                Outcome::Failed("It broke.\nThe console's end".into()),
            ),
            result("elsewhere", Outcome::Skipped("It needs a sun.".into())),
        ],
    }
}

/// Compares with a stored file; `TWINSEAL_GOLDEN=write` stores it anew.
fn golden(name: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/golden")
        .join(name);
    if std::env::var_os("TWINSEAL_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&file).unwrap(),
        "{}",
        file.display()
    );
}

#[test]
fn the_page_is_the_stored_one_and_needs_nothing_else() {
    let page = html(&report());
    golden("report.html", &page);
    for outside in ["http:", "https:", "<script", "<link", "<img", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_seconds_of_the_initramfs_are_told() {
    let told = Starts::of(&report()).unwrap().to_string();
    assert!(
        told.contains("0.125 s") && told.contains("2 starts"),
        "{told}"
    );
    assert_eq!(Starts::of(&Report::default()), None);
}

#[test]
fn the_xml_is_the_stored_one() {
    golden("report.xml", &junit(&report()).unwrap());
}

#[test]
fn the_lines_are_the_stored_ones() {
    let mut lines: String = report()
        .results
        .iter()
        .map(|result| format!("{result}\n"))
        .collect();
    lines.push_str(&report().counts().to_string());
    golden("report.txt", &lines);
    assert!(lines.ends_with("1 passed, 1 failed, 1 skipped"));
    assert_eq!((report().cuts(), report().late_cuts()), (6, 1));
}
