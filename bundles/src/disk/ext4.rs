//! ext4 file systems with sealed files, made without mounting anything: by no kernel, as no particular user.
//!
//! A folder holds the files, each sealed one with tree and descriptor behind its data (`merkle.rs`). `mke2fs -d` copies the
//! folder into a new file system; then one script for `debugfs` gives every sealed file the size of its data and the flag
//! `EXT4_VERITY_FL`, and everything owner and times. `e2fsck` has the last word.
//!
//! # Invariants
//! - Nothing here is trusted by a device: the kernel measures every file against the digest that is its name. A mistake gives
//!   a boot that is refused, never content that is taken for something else.
//! - The same folder gives the same bytes: features, seeds, owners and times are stated, none is the host's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::sizes::{MIB, journal_bytes};
use super::tools::{Call, DEBUGFS, E2FSCK, MKE2FS};
use crate::error::{Error, FileOperation};

/// Features of every file system here, by name: those of ext4 since Linux 4.x, and none that only some versions of e2fsprogs
/// know. A journal, because an update writes to a slot and a power cut may come.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,\
    dir_nlink,extra_isize,metadata_csum";

/// Flags of a sealed file's inode: `EXT4_EXTENTS_FL` and `EXT4_VERITY_FL` (kernel, `fs/ext4/ext4.h`).
const SEALED_FLAGS: u32 = 0x8_0000 | 0x10_0000;

/// The clock of the tools: seconds since 1970. 0 would mean the host's clock.
const TOOL_TIME: &str = "1";

/// Everything that an inode knows about time.
const TIME_FIELDS: [&str; 8] = [
    "atime",
    "ctime",
    "mtime",
    "crtime",
    "atime_extra",
    "ctime_extra",
    "mtime_extra",
    "crtime_extra",
];

/// What mke2fs reads instead of the host's configuration, which has defaults of its own.
const CONFIGURATION: &str = "[defaults]
    base_features = filetype
    enable_periodic_fsck = 0
    inode_ratio = 16384
[fs_types]
    ext4 = {
        features = filetype
    }
";

/// The folder that becomes a file system.
pub(super) struct Tree {
    folder: PathBuf,
    /// Every name in it; for a sealed file, the size of its data.
    names: BTreeMap<String, Option<u64>>,
}

impl Tree {
    /// An empty one in `folder`, which is made.
    pub(super) fn new(folder: PathBuf) -> Result<Self, Error> {
        make_directory(&folder)?;
        Ok(Self {
            folder,
            names: BTreeMap::new(),
        })
    }

    /// Makes a directory, 0755, and those above it.
    pub(super) fn directory(&mut self, name: &str) -> Result<(), Error> {
        if self.names.contains_key(name) {
            return Ok(());
        }
        if let Some((above, _)) = name.rsplit_once('/') {
            self.directory(above)?;
        }
        make_directory(&self.folder.join(name))?;
        self.names.insert(name.to_owned(), None);
        Ok(())
    }

    /// Makes a file, 0644.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        use std::io::Write;
        let path = self.folder.join(name);
        let mut file = self.create(name)?;
        file.write_all(content)
            .map_err(FileOperation::Write.on(&path))
    }

    /// Makes a symbolic link.
    pub(super) fn link(&mut self, name: &str, target: &str) -> Result<(), Error> {
        self.parent(name)?;
        let path = self.folder.join(name);
        symlink(target, &path).map_err(FileOperation::Create.on(&path))?;
        self.names.insert(name.to_owned(), None);
        Ok(())
    }

    /// Makes an empty file, 0644, to be filled.
    pub(super) fn create(&mut self, name: &str) -> Result<File, Error> {
        self.parent(name)?;
        let path = self.folder.join(name);
        let failed = || FileOperation::Create.on(&path);
        let file = File::create_new(&path).map_err(failed())?;
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(failed())?;
        self.names.insert(name.to_owned(), None);
        Ok(file)
    }

    /// Says that a file lies there as `merkle.rs` writes it, with so many bytes of data.
    pub(super) fn seal(&mut self, name: &str, bytes: u64) {
        self.names.insert(name.to_owned(), Some(bytes));
    }

    /// Where a name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn parent(&mut self, name: &str) -> Result<(), Error> {
        name.rsplit_once('/')
            .map_or(Ok(()), |(above, _)| self.directory(above))
    }

    /// What `debugfs` does to every inode.
    fn script(&self) -> String {
        let mut script = String::new();
        let ours = self
            .names
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes));
        for (name, sealed) in [("", None), ("lost+found", None)].into_iter().chain(ours) {
            let mut set = |field: &str, value: u64| {
                // Writing to a string does not fail.
                let _ = writeln!(script, "set_inode_field \"/{name}\" {field} {value}");
            };
            if let Some(bytes) = sealed {
                set("size", bytes);
                set("flags", u64::from(SEALED_FLAGS));
            }
            for owner in ["uid", "gid"] {
                set(owner, 0);
            }
            for time in TIME_FIELDS {
                set(time, 0);
            }
        }
        script
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(FileOperation::Create.on(path))
}

/// A file system to be made.
pub(super) struct Ext4<'f> {
    /// Its label, which is also what messages call it.
    pub label: &'f str,
    pub guid: Uuid,
    pub bytes: u64,
    /// How many inodes; as mke2fs sees fit when nothing is said.
    pub inodes: Option<u64>,
    /// Whether files in it may be sealed.
    pub verity: bool,
}

impl Ext4<'_> {
    /// Makes it in the new file `image` from `tree`; `work` is a folder for small files.
    ///
    /// # Errors
    /// [`DiskError::ToolMissing`](super::DiskError::ToolMissing) and [`DiskError::Tool`](super::DiskError::Tool).
    pub(super) fn make(&self, tree: &Tree, image: &Path, work: &Path) -> Result<(), Error> {
        let configuration = work.join("mke2fs.conf");
        fs::write(&configuration, CONFIGURATION)
            .map_err(FileOperation::Write.on(&configuration))?;
        // A hole from end to end: mke2fs need write no zeros.
        File::create_new(image)
            .and_then(|file| file.set_len(self.bytes))
            .map_err(FileOperation::Create.on(image))?;
        let environment = vec![
            ("MKE2FS_CONFIG", configuration.as_os_str()),
            ("E2FSPROGS_FAKE_TIME", OsStr::new(TOOL_TIME)),
            ("SOURCE_DATE_EPOCH", OsStr::new(TOOL_TIME)),
        ];
        let call = Call {
            environment: environment.clone(),
            ..self.mke2fs(tree, image)
        };
        MKE2FS.run(&call)?;
        self.edit(&tree.script(), image, environment)?;
        E2FSCK.run(&Call::new(self.label, ["-f", "-n"]).with_path(image))?;
        Ok(())
    }

    fn mke2fs(&self, tree: &Tree, image: &Path) -> Call<'_> {
        let features = if self.verity { ",verity" } else { "" };
        let journal = journal_bytes(self.bytes) / MIB;
        let guid = self.guid;
        let mut call = Call::new(
            self.label,
            [
                "-q",
                "-F",
                "-t",
                "ext4",
                "-b",
                "4096",
                "-I",
                "256",
                "-m",
                "0",
                "-L",
                self.label,
                "-O",
                &format!("{FEATURES}{features}"),
                "-J",
                &format!("size={journal}"),
                "-U",
                &guid.to_string(),
                "-E",
                &format!("root_owner=0:0,hash_seed={guid},assume_storage_prezeroed=1"),
            ],
        );
        if let Some(inodes) = self.inodes {
            call.arguments
                .extend(["-N".into(), inodes.to_string().into()]);
        }
        call.arguments.push("-d".into());
        call.with_path(&tree.folder).with_path(image)
    }

    fn edit(
        &self,
        script: &str,
        image: &Path,
        environment: Vec<(&str, &OsStr)>,
    ) -> Result<(), Error> {
        let call = Call {
            environment,
            input: script,
            ..Call::new(self.label, ["-w", "-f", "-"]).with_path(image)
        };
        let output = DEBUGFS.run(&call)?;
        // It ends well whatever happens, says its version on standard error, and there too what went wrong.
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.lines().all(|line| line.starts_with("debugfs ")) {
            return Ok(());
        }
        Err(DEBUGFS.failed(self.label, &output).into())
    }
}
