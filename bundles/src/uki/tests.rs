//! A UKI of synthetic parts: what is in it, where, and which parts are refused.

use super::*;
use crate::pe::synthetic::{ARM32, ARM64, NX_COMPAT, Synthetic, set};

/// Owned parts, to be changed by a test before they are lent to [`assemble`].
struct Parts {
    stub: Vec<u8>,
    linux: Vec<u8>,
    initrd: Option<Vec<u8>>,
    cmdline: String,
    os_release: Vec<u8>,
    uname: Option<String>,
    sbat: Option<Vec<u8>>,
    device_tree: Option<Vec<u8>>,
}

impl Default for Parts {
    fn default() -> Self {
        let kernel_sections = vec![(".setup", vec![1; 700]), (".text", vec![2; 5000])];
        Self {
            stub: Synthetic::default().build(),
            linux: Synthetic {
                sections: kernel_sections,
                ..Synthetic::default()
            }
            .build(),
            initrd: Some(vec![7; 1001]),
            cmdline: "composefs=0123 quiet".to_owned(),
            os_release: b"ID=appliance\nVERSION_ID=3\n".to_vec(),
            uname: Some("6.12.1".to_owned()),
            sbat: None,
            device_tree: None,
        }
    }
}

impl Parts {
    fn assemble(&self) -> Result<Vec<u8>, UkiError> {
        assemble(&UkiParts {
            stub: &self.stub,
            linux: &self.linux,
            initrd: self.initrd.as_deref(),
            cmdline: &self.cmdline,
            os_release: &self.os_release,
            uname: self.uname.as_deref(),
            sbat: self.sbat.as_deref(),
            device_tree: self.device_tree.as_deref(),
        })
    }

    fn error(&self) -> UkiError {
        self.assemble().unwrap_err()
    }
}

fn names(file: &[u8]) -> Vec<String> {
    PeImage::parse(file)
        .unwrap()
        .sections()
        .iter()
        .map(Section::name_text)
        .collect()
}

/// A device tree's magic number and little else.
fn device_tree() -> Vec<u8> {
    let mut tree = DEVICE_TREE_MAGIC.to_vec();
    tree.resize(64, 0);
    tree
}

#[test]
fn every_part_is_found_again() {
    let parts = Parts {
        device_tree: Some(device_tree()),
        ..Parts::default()
    };
    let uki = parts.assemble().unwrap();
    let order = [
        ".text", ".sbat", ".reloc", ".osrel", ".cmdline", ".dtb", ".uname", ".linux", ".initrd",
    ];
    assert_eq!(names(&uki), order);
    let content = |name| section(&uki, name).unwrap().unwrap();
    assert_eq!(content(".osrel"), parts.os_release);
    assert_eq!(content(".cmdline"), b"composefs=0123 quiet");
    assert_eq!(content(".dtb"), device_tree());
    assert_eq!(content(".uname"), b"6.12.1");
    assert_eq!(content(".linux"), parts.linux);
    assert_eq!(content(".initrd"), vec![7; 1001]);
    assert_eq!(section(&uki, ".pcrsig").unwrap(), None);
    for name in [".text", ".reloc"] {
        assert_eq!(
            section(&uki, name).unwrap(),
            section(&parts.stub, name).unwrap(),
            "{name} is the stub's"
        );
    }
    assert_eq!(
        uki,
        parts.assemble().unwrap(),
        "the same parts give the same bytes"
    );
}

#[test]
fn optional_parts_can_be_left_out() {
    let uki = Parts {
        initrd: None,
        uname: None,
        ..Parts::default()
    }
    .assemble()
    .unwrap();
    assert_eq!(
        names(&uki),
        [".text", ".sbat", ".reloc", ".osrel", ".cmdline", ".linux"]
    );
}

#[test]
fn sections_are_aligned_and_headers_agree() {
    let mut parts = Parts::default();
    set(&mut parts.stub, 0x58 + 64, &0x1234_u32.to_le_bytes());
    let uki = parts.assemble().unwrap();
    let image = PeImage::parse(&uki).unwrap();
    let mut end = 0;
    for section in image.sections() {
        assert_eq!(section.virtual_address % 0x1000, 0);
        assert_eq!(
            (section.raw_offset % 0x200, section.raw_size % 0x200),
            (0, 0)
        );
        assert!(u64::from(section.virtual_address) >= end);
        end = section.virtual_end();
    }
    let field = |offset: usize| u32::from_le_bytes(*uki[offset..].first_chunk().unwrap());
    assert_eq!(
        u64::from(field(image.fields().size_of_image)),
        end.next_multiple_of(0x1000)
    );
    assert_eq!(field(image.fields().checksum), 0);
    let flags_of = |name| field(image.section_named(name).unwrap().unwrap().header_offset + 36);
    assert_eq!(flags_of(".linux"), 0x4000_0020);
    assert_eq!(flags_of(".initrd"), 0x4000_0040);
    assert_eq!(
        image.sections().last().unwrap().raw_range().end,
        uki.len() as u64
    );
}

#[test]
fn parts_for_arm_make_a_uki_for_it() {
    for machine in [ARM64, ARM32] {
        let of_arm = || {
            Synthetic {
                machine,
                ..Synthetic::default()
            }
            .build()
        };
        let uki = Parts {
            stub: of_arm(),
            linux: of_arm(),
            ..Parts::default()
        }
        .assemble()
        .unwrap();
        let image = PeImage::parse(&uki).unwrap();
        assert_eq!(image.headers().machine, machine);
        let kernel = image.section_named(".linux").unwrap().unwrap();
        assert_eq!(image.content(kernel).unwrap(), of_arm());
        let mixed = Parts {
            linux: of_arm(),
            ..Parts::default()
        };
        let mismatch = PartError::MachineMismatch {
            stub: 0x8664,
            kernel: machine,
        };
        assert_eq!(mixed.error(), mismatch.into());
    }
}

#[test]
fn a_uki_claims_nx_only_if_its_kernel_does() {
    let flags = |kernel_flags| {
        let linux = Synthetic {
            dll_characteristics: kernel_flags,
            ..Synthetic::default()
        }
        .build();
        let uki = Parts {
            linux,
            ..Parts::default()
        }
        .assemble()
        .unwrap();
        PeImage::parse(&uki).unwrap().headers().dll_characteristics
    };
    assert_eq!(flags(NX_COMPAT), NX_COMPAT);
    assert_eq!(flags(0), 0);
}

#[test]
fn sbat_entries_of_stub_kernel_and_caller_are_merged_in_place() {
    let sbat = b"sbat,1,x\nlinux.example,4,a\n".to_vec();
    let linux = Synthetic {
        sections: vec![(".text", vec![1; 10]), (".sbat", sbat)],
        ..Synthetic::default()
    }
    .build();
    let components = |parts: &Parts| {
        let uki = parts.assemble().unwrap();
        let text = String::from_utf8(section(&uki, ".sbat").unwrap().unwrap().to_vec()).unwrap();
        let names = text
            .lines()
            .filter_map(|line| line.split(',').next())
            .map(str::to_owned);
        names.collect::<Vec<_>>()
    };
    let mut parts = Parts {
        linux,
        ..Parts::default()
    };
    assert_eq!(
        components(&parts),
        ["sbat", "stub", "linux.example", "uki", "\0"]
    );
    parts.sbat = Some(b"sbat,1,x\nacme,2,b\n".to_vec());
    assert_eq!(
        components(&parts),
        ["sbat", "stub", "linux.example", "acme", "\0"]
    );
    parts.stub = Synthetic {
        sections: vec![(".text", vec![1; 10])],
        ..Synthetic::default()
    }
    .build();
    assert_eq!(components(&parts), ["sbat", "linux.example", "acme", "\0"]);
    assert_eq!(names(&parts.assemble().unwrap()).last().unwrap(), ".sbat");
}

#[test]
fn sbat_that_does_not_fit_is_refused() {
    let long = format!("sbat,1,x\nacme,1,{}\n", "a".repeat(600));
    let parts = Parts {
        sbat: Some(long.into_bytes()),
        ..Parts::default()
    };
    assert!(matches!(
        parts.error(),
        UkiError::Stub(StubError::NoSbatSpace {
            room_bytes: 512,
            needed_bytes: 700..
        })
    ));
    let wrong = Parts {
        sbat: Some(b"acme,1\n".to_vec()),
        ..Parts::default()
    };
    assert_eq!(wrong.error(), PartError::Sbat { owner: "caller" }.into());
    // In the file .sbat has 1024 bytes, but in memory the next section may begin 512 bytes behind it.
    let text = format!("sbat,1,x\n{}\n", "a".repeat(600)).into_bytes();
    let sections = vec![(".text", vec![1]), (".sbat", text)];
    let stub = Synthetic {
        sections,
        ..Synthetic::default()
    }
    .build();
    let mut crowded = Parts {
        stub,
        sbat: parts.sbat,
        ..Parts::default()
    };
    set(&mut crowded.stub, 0x58 + 32, &0x200_u32.to_le_bytes());
    set(&mut crowded.stub, 0x148 + 40 + 8, &9_u32.to_le_bytes());
    assert!(matches!(
        crowded.error(),
        UkiError::Stub(StubError::NoSbatSpace {
            room_bytes: 512,
            ..
        })
    ));
}

#[test]
fn stubs_that_are_signed_or_finished_are_refused() {
    let finished = Parts {
        stub: Parts::default().assemble().unwrap(),
        ..Parts::default()
    };
    assert_eq!(
        finished.error(),
        StubError::SectionPresent { name: ".osrel" }.into()
    );
    let only_linux = vec![(".text", vec![1; 10]), (".linux", vec![2; 10])];
    let stub = Synthetic {
        sections: only_linux,
        ..Synthetic::default()
    }
    .build();
    assert_eq!(
        Parts {
            stub,
            ..Parts::default()
        }
        .error(),
        StubError::SectionPresent { name: ".linux" }.into()
    );
    let mut signed = Parts::default();
    set(&mut signed.stub, 0x58 + 144, &[0, 8, 0, 0, 8, 0, 0, 0]);
    assert_eq!(signed.error(), StubError::Signed.into());
    let none = Parts {
        stub: b"not a stub".to_vec(),
        ..Parts::default()
    };
    assert_eq!(none.error(), StubError::Pe(PeError::NotPe).into());
    let full = Parts {
        stub: Synthetic {
            size_of_headers: 0x200,
            ..Synthetic::default()
        }
        .build(),
        ..Parts::default()
    };
    assert_eq!(
        full.error(),
        StubError::NoHeaderSpace { room: 1, needed: 5 }.into()
    );
}

#[test]
fn command_lines_that_would_not_be_kept_are_refused() {
    let error = |cmdline: &str| {
        Parts {
            cmdline: cmdline.to_owned(),
            ..Parts::default()
        }
        .error()
    };
    for (text, position) in [("a\0b", 1), ("quiet\n", 5), ("\ta", 0), ("é\u{85}", 2)] {
        assert_eq!(
            error(text),
            PartError::ControlCharacter {
                name: ".cmdline",
                position
            }
            .into()
        );
    }
    assert_eq!(error(""), PartError::Empty { name: ".cmdline" }.into());
    assert_eq!(error("  "), PartError::Empty { name: ".cmdline" }.into());
    let too_long = PartError::CommandLineTooLong {
        length_bytes: 2048,
        limit_bytes: 2047,
    };
    assert_eq!(error(&"a".repeat(2048)), too_long.into());
    assert!(
        Parts {
            cmdline: "a".repeat(2047),
            ..Parts::default()
        }
        .assemble()
        .is_ok()
    );
}

#[test]
fn parts_that_cannot_boot_are_refused() {
    let empty = |name| UkiError::from(PartError::Empty { name });
    assert_eq!(
        Parts {
            initrd: Some(Vec::new()),
            ..Parts::default()
        }
        .error(),
        empty(".initrd")
    );
    assert_eq!(
        Parts {
            os_release: Vec::new(),
            ..Parts::default()
        }
        .error(),
        empty(".osrel")
    );
    assert_eq!(
        Parts {
            uname: Some(String::new()),
            ..Parts::default()
        }
        .error(),
        empty(".uname")
    );
    let uname = Parts {
        uname: Some("6.12\n".to_owned()),
        ..Parts::default()
    };
    assert_eq!(
        uname.error(),
        PartError::ControlCharacter {
            name: ".uname",
            position: 4
        }
        .into()
    );
    let gzip = Parts {
        linux: b"\x1f\x8b\x08".to_vec(),
        ..Parts::default()
    };
    assert_eq!(gzip.error(), PartError::Kernel(PeError::NotPe).into());
    let source = Parts {
        device_tree: Some(b"/dts-v1/;".to_vec()),
        ..Parts::default()
    };
    assert_eq!(source.error(), PartError::NotDeviceTree.into());
}

#[test]
fn reading_something_else_is_an_error() {
    assert_eq!(
        section(b"ELF", ".linux"),
        Err(UkiError::Image(PeError::NotPe))
    );
}

#[test]
fn messages_are_sentences_that_name_the_cause() {
    let error = Parts {
        linux: b"\x1f\x8b\x08".to_vec(),
        ..Parts::default()
    }
    .error();
    let text = error.to_string();
    assert!(
        text.starts_with("the kernel cannot be used: this is not a PE file"),
        "{text}"
    );
}

#[test]
fn no_damaged_header_panics() {
    let good = Parts::default();
    let uki = good.assemble().unwrap();
    let mut refused = 0;
    for offset in 0..0x1c0 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut stub = good.stub.clone();
            stub[offset] = value;
            refused += usize::from(
                Parts {
                    stub,
                    ..Parts::default()
                }
                .assemble()
                .is_err(),
            );
            let mut damaged = uki.clone();
            damaged[offset] = value;
            for name in [".text", ".linux", ".initrd"] {
                let _ = section(&damaged, name);
            }
        }
    }
    assert!(refused > 100, "{refused} damaged stubs were refused");
}
