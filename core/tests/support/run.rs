//! Runs an install, and looks at what came of it.

use super::*;

/// What the device allows in these tests.
pub const POLICY: Policy<'static> = Policy {
    compatible: COMPATIBLE,
    floor: 5,
    now: Some(1500),
    highest_time_seen: 1400,
};

/// How an install is run.
#[derive(Clone)]
pub struct Options {
    pub keys: Vec<u8>,
    pub policy: Policy<'static>,
    pub audit: bool,
    pub read_back: bool,
    pub budget: Option<u64>,
    pub known_length: bool,
    pub request_bytes: usize,
    pub can_go_back: bool,
    /// Whether there is a decoder for zstd: [`forgetful`].
    pub has_zstd: bool,
    /// The manifest of an install that was interrupted on the device.
    pub interrupted: Option<Sha256Digest>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: vec![1],
            policy: POLICY,
            audit: true,
            read_back: true,
            budget: None,
            known_length: true,
            request_bytes: REQUEST_BYTES,
            can_go_back: true,
            has_zstd: false,
            interrupted: None,
        }
    }
}

/// The end of an install.
#[derive(Debug)]
pub struct Done {
    pub plan: Option<Plan>,
    pub tally: Tally,
    /// Bytes that the decoder for zstd read in its history.
    pub recalled: usize,
}

/// Installs from memory.
pub fn install(bundle: &[u8], device: &mut Device, options: &Options) -> Result<Done, Error> {
    let mut source = Seekable(bundle_reader(bundle));
    install_from(&mut source, bundle.len(), device, options)
}

pub struct Reader<'b> {
    bytes: &'b [u8],
    position: u64,
    /// Bytes read in all.
    pub taken: u64,
}

pub fn bundle_reader(bytes: &[u8]) -> Reader<'_> {
    Reader {
        bytes,
        position: 0,
        taken: 0,
    }
}

impl embedded_io::ErrorType for Reader<'_> {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = self.bytes.get(self.position as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        self.taken += length as u64;
        Ok(length)
    }
}

impl embedded_io::Seek for Reader<'_> {
    fn seek(&mut self, position: embedded_io::SeekFrom) -> Result<u64, Self::Error> {
        self.position = match position {
            embedded_io::SeekFrom::Start(offset) => offset,
            embedded_io::SeekFrom::End(offset) => self.bytes.len() as u64 + offset as u64,
            embedded_io::SeekFrom::Current(offset) => self.position + offset as u64,
        };
        Ok(self.position)
    }
}

pub fn install_from<R>(
    source: &mut R,
    length: usize,
    device: &mut Device,
    options: &Options,
) -> Result<Done, Error>
where
    R: Source<Error = embedded_io::ErrorKind>,
{
    let keys: Vec<_> = options.keys.iter().map(|number| trusted(*number)).collect();
    let config = Config {
        keys: &keys,
        policy: options.policy,
        request_max_bytes: options.request_bytes as u32,
        source_bytes: options.known_length.then_some(length as u64),
        audit: options.audit,
        read_back: options.read_back,
        budget: options.budget,
        can_go_back: options.can_go_back,
    };
    let mut front = vec![0xa5; FRONT_MAX_BYTES];
    let mut output = vec![0; 4096];
    let mut inflate = Box::new(Inflate::new());
    let mut zstd = forgetful::Forgetful::default();
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut *inflate,
        zstd: options
            .has_zstd
            .then_some(&mut zstd as &mut dyn RangeDecoder),
    };
    let (held, running) = (proved(&device.front), proved(&device.running_front));
    let mut installer = Installer::new(config, workspace)?;
    if let Some(held) = &held {
        installer.start_from(held);
    }
    if let Some(running) = &running {
        installer.know_running(running);
    }
    if let Some(interrupted) = options.interrupted {
        installer.go_on_from(interrupted);
    }
    let mut plan = None;
    let mut buffer = vec![0; options.request_bytes];
    let result = run(&mut installer, source, device, &mut buffer, |_, seen| {
        plan = Some(*seen);
        true
    });
    match result {
        Ok(()) => {
            let tally = installer.tally();
            installer.into_installed()?;
            let recalled = zstd.recalled;
            Ok(Done {
                plan,
                tally,
                recalled,
            })
        }
        Err(RunError::Core(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

/// What the target set must hold after an install of `release`.
pub fn assert_holds(device: &Device, release: &Release) {
    for object in release
        .objects
        .iter()
        .chain(release.uki.iter().map(|_| &release.erofs))
    {
        assert_eq!(
            device.target.get(verity(object).as_bytes()),
            Some(object),
            "an object is missing or wrong"
        );
    }
    assert_eq!(device.staged_uki, release.uki);
    for (slot, bytes) in &release.images {
        assert_eq!(&device.image_slots[*slot][..bytes.len()], bytes);
    }
    assert!(device.bootable);
}

/// As [`assert_holds`], and nothing else.
pub fn assert_holds_only(device: &Device, release: &Release) {
    assert_holds(device, release);
    let digests = |bytes: &Vec<u8>| verity(bytes).as_bytes().to_vec();
    let mut expected: Vec<_> = release.objects.iter().map(digests).collect();
    expected.push(digests(&release.erofs));
    expected.sort();
    assert!(device.target.keys().eq(expected.iter()), "other objects");
}

/// Names the error of a source that ended.
pub fn ended<E>() -> SourceError<E> {
    SourceError::Ended
}
