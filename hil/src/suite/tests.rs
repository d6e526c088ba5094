use super::*;

fn options(folder: &Path) -> Options {
    Options {
        board: Board::Uefi,
        paths: vec![folder.join("scenarios")],
        filter: None,
        junit: Some(folder.join("report.xml")),
        html: Some(folder.join("report.html")),
        jobs: 1,
        seed: 7,
        cuts: None,
        out: folder.join("out"),
        inputs: folder.to_owned(),
        programs: folder.to_owned(),
        device_programs: folder.to_owned(),
        firmware: folder.to_owned(),
        patience: 1,
        qemu: "/no/qemu".into(),
        own: "/no/own".into(),
    }
}

#[test]
fn a_run_that_cannot_be_made_leaves_a_report_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (xml, page) = (
        options.junit.clone().unwrap(),
        options.html.clone().unwrap(),
    );
    fs::write(&xml, "all is well").unwrap();
    fs::write(&page, "all is well").unwrap();
    let error = run(&options, io::sink()).unwrap_err();
    assert!(matches!(error, SuiteError::Scenario(_)), "{error}");
    for file in [xml, page] {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("all is well"), "{text}");
        assert!(text.contains("could not be read"), "{text}");
        assert!(
            text.contains("failed") || text.contains("failures=\"1\""),
            "{text}"
        );
    }
}

#[test]
fn a_report_that_cannot_be_removed_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    fs::create_dir(options.junit.as_ref().unwrap()).unwrap();
    let error = run(&options, io::sink()).unwrap_err();
    assert!(error.to_string().contains("removed"), "{error}");
}

#[test]
fn what_the_board_has_not_is_named() {
    assert_eq!(
        lacking(Processor::X86_64, &[Need::Watchdog, Need::Network]),
        "The board uefi has no watchdog, network."
    );
}

#[test]
fn releases_are_made_for_the_appliances_that_are_asked_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let all = scenario::read_all(std::slice::from_ref(&folder), None).unwrap();
    let made = orders(&all).into_iter().map(|(appliance, _)| appliance);
    assert_eq!(made.collect::<Vec<_>>(), Appliance::ALL);
    let one = scenario::read_all(&[folder], Some("systemd-boot-good-update")).unwrap();
    let expected = (Appliance::ALL[1], vec![Bundle::V1, Bundle::V2]);
    assert_eq!(orders(&one), [expected]);
}
