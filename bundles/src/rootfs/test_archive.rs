//! Makes tar archives for tests, the broken ones too.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// An archive in the making.
#[derive(Default)]
pub(crate) struct TestArchive {
    bytes: Vec<u8>,
}

impl TestArchive {
    /// Adds a member with mode 0644 (directories 0755), owner 1:2 and time 1000.
    pub(crate) fn member(self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        let header = header(kind, name.as_bytes(), link, content.len() as u64);
        self.block(&header).content(content)
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(b'0', name, "", content)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.member(b'5', name, "", b"")
    }

    /// Adds records that hold for the next member (`x`) or for all that follow (`g`).
    pub(crate) fn records(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (keyword, value) in records {
            let rest = [b" ", keyword.as_bytes(), b"=", value, b"\n"].concat();
            let mut length = rest.len();
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            content.extend_from_slice(length.to_string().as_bytes());
            content.extend_from_slice(&rest);
        }
        let header = header(kind, b"records", "", content.len() as u64);
        self.block(&header).content(&content)
    }

    /// Adds a member whose header is changed before its checksum is made.
    pub(crate) fn changed(self, kind: u8, name: &str, change: impl FnOnce(&mut [u8; 512])) -> Self {
        let mut header = header(kind, name.as_bytes(), "", 0);
        change(&mut header);
        set_checksum(&mut header);
        self.block(&header)
    }

    /// Adds bytes as they are.
    pub(crate) fn block(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// The bytes without an end marker.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes with the end marker.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.block(&[0; 1024]).bytes
    }
}

/// An archive with one of everything that tar can store and a root can hold, except whiteouts.
pub(crate) fn varied() -> TestArchive {
    let large: Vec<u8> = (0..10_000_u32).map(|index| (index % 251) as u8).collect();
    let many = (0..300).fold(
        TestArchive::default().directory("./").directory("many/"),
        |archive, index| {
            archive.file(
                &format!("many/file-with-a-number-{index}"),
                format!("{index}").as_bytes(),
            )
        },
    );
    many.directory("bin/")
        .directory("sbin")
        .records(
            b'x',
            &[
                ("mtime", b"999.000000007"),
                ("SCHILY.xattr.user.note", b"a\nb"),
                ("uid", b"70000"),
            ],
        )
        .file("bin/tool", &large)
        .records(
            b'x',
            &[(
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            )],
        )
        .changed(b'0', "bin/empty", |header| {
            header[100..108].copy_from_slice(b"0004755\0")
        })
        .file("bin/copy", &large)
        .member(b'1', "sbin/tool", "bin/tool", b"")
        .file("at-the-limit", &[b'x'; 64])
        .file("over-the-limit", &[b'x'; 65])
        .member(b'2', "link", "bin/tool", b"")
        .records(b'x', &[("linkpath", &[b't'; 4000])])
        .member(b'2', "long-link", "", b"")
        .member(b'6', "pipe", "", b"")
        .changed(b'3', "null", |header| {
            header[329..337].copy_from_slice(b"0000001\0");
            header[337..345].copy_from_slice(b"0000003\0");
        })
        .changed(b'4', "disk", |header| {
            header[329..337].copy_from_slice(b"0000403\0");
            header[337..345].copy_from_slice(b"0210560\0");
        })
        .records(
            b'x',
            &[
                ("path", b"odd \xff\n name"),
                ("SCHILY.xattr.trusted.overlay.test", b""),
            ],
        )
        .file("odd", b"odd")
        .file("3b", b"named like a directory of objects")
}

/// [`varied`], and whiteouts beside marks that say so already.
pub(crate) fn with_whiteouts() -> TestArchive {
    varied()
        .records(
            b'x',
            &[
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.whiteouts", b"z"),
            ],
        )
        .directory("layer")
        .records(b'x', &[("SCHILY.xattr.trusted.overlay.whiteout", b"w")])
        .member(b'3', "layer/gone", "", b"")
        .member(b'3', "gone-from-root", "", b"")
}

/// Stores an archive where it is removed again when the first value is dropped.
pub(crate) fn store(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.tar");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn header(kind: u8, name: &[u8], link: &str, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    let mode = if kind == b'5' {
        b"0000755\0"
    } else {
        b"0000644\0"
    };
    header[100..108].copy_from_slice(mode);
    header[108..116].copy_from_slice(b"0000001\0");
    header[116..124].copy_from_slice(b"0000002\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000001750\0");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    set_checksum(&mut header);
    header
}

/// Makes the checksum of a header right.
pub(crate) fn set_checksum(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
