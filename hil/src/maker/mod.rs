//! The maker of scenarios' releases: keys, good and bad bundles, and the disk of a new device.
//!
//! # Invariants
//! - Everything is made in a folder of the run; only the inputs come from outside.

mod overlay;
mod recipe;
pub mod tools;

use crate::boards::uefi::variables::{self, Certificates};
use crate::boards::uefi::{Processor, UefiError};
use crate::command::{CommandError, Invocation, Output, Runner};
use crate::scenario::{Appliance, Bundle, Kernel, Loader};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

/// What releases are made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The processor of the device.
    pub processor: Processor,
    /// The folder of the inputs.
    pub folder: PathBuf,
    /// The folder of programs that run here.
    pub tools: PathBuf,
    /// The folder of those for the general kernel.
    pub general_folder: PathBuf,
    /// Static `twinseal` and `twinseal-minimal`.
    pub device_programs: PathBuf,
}

/// Something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakerError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The firmware's variables could not be made.
    #[error(transparent)]
    Variables(#[from] UefiError),
    /// A file could not be worked with.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried.
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// An input is missing.
    #[error("The input {} is missing. Make it with {by}.", file.display())]
    InputMissing {
        /// The file.
        file: PathBuf,
        /// What makes it.
        by: &'static str,
    },
    /// A recipe could not be written.
    #[error(
        "The recipe of {name} cannot be written as TOML: {source}. A path that is not UTF-8 is one cause."
    )]
    Recipe {
        /// The release.
        name: &'static str,
        /// Why.
        source: toml::ser::Error,
    },
}

impl MakerError {
    pub(crate) fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What they are for.
    pub appliance: Appliance,
    /// Everything is in here.
    folder: PathBuf,
    /// The bundles are in here.
    bundles: PathBuf,
    root: PathBuf,
    built: HashMap<Bundle, Built>,
}

/// What is known of a bundle.
#[derive(Clone, Debug)]
struct Built {
    seal: String,
    sizes: Sizes,
}

/// Sizes of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The bundle.
    pub bundle_bytes: u64,
    /// The UKI in it, as it is stored there.
    pub uki_bytes: u64,
}

/// What `twinseal-bundle inspect --json` says, as far as it is used here.
#[derive(Deserialize)]
struct Inspected {
    blobs: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    role: String,
    stored_bytes: u64,
}

/// The disk of a new device with V1 in both sets.
const BOTH_SETS: &str = "factory-both.img";

impl Made {
    /// The disk of a new device with V1.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("factory.img")
    }

    /// The same with V1 in both sets.
    pub fn disk_of_both_sets(&self) -> PathBuf {
        self.folder.join(BOTH_SETS)
    }

    /// The firmware's variables of a new device.
    pub fn variables(&self) -> PathBuf {
        self.folder.join("new-variables.fd")
    }

    /// The bundle of a release.
    pub fn bundle_file(&self, bundle: Bundle) -> PathBuf {
        self.bundles.join(format!("{}.tseal", bundle.name()))
    }

    /// Key and certificate of a stranger.
    pub fn stranger(&self) -> [PathBuf; 2] {
        ["stranger.key", "stranger.crt"].map(|name| self.folder.join("keys").join(name))
    }

    /// The seal of a release, in hex.
    pub fn seal(&self, bundle: Bundle) -> Option<&str> {
        self.built.get(&bundle).map(|built| built.seal.as_str())
    }

    /// The sizes of a release's bundle.
    pub fn sizes(&self, bundle: Bundle) -> Option<Sizes> {
        self.built.get(&bundle).map(|built| built.sizes)
    }

    /// The release of a seal.
    pub fn bundle_of(&self, seal: &str) -> Option<Bundle> {
        let mut all = Bundle::ALL.into_iter();
        all.find(|bundle| self.seal(*bundle) == Some(seal))
    }

    /// The fs-verity digest of a file in the root of a release, in hex.
    ///
    /// # Errors
    /// When the release has no such file.
    pub fn digest_of(
        &self,
        runner: &Runner,
        bundle: Bundle,
        file: &str,
        scratch: &Path,
    ) -> Result<String, MakerError> {
        let name = file.trim_start_matches('/');
        let own = overlay::folder(&self.folder, bundle).join(name);
        if own.is_file() {
            return Ok(tools::digest(runner, &own)?);
        }
        Ok(tools::digest_in_tar(runner, &self.root, file, scratch)?)
    }
}

impl Inputs {
    /// A file that `scripts/appliance.sh` makes.
    fn appliance(&self, name: &str) -> Result<PathBuf, MakerError> {
        there(self.folder.join(name), self.processor.inputs_made_by())
    }

    /// One that goes with a kernel.
    fn of_kernel(&self, kernel: Kernel, name: &str) -> Result<PathBuf, MakerError> {
        match kernel {
            // For ARM there is one kernel for all.
            Kernel::General if self.processor == Processor::X86_64 => there(
                self.general_folder.join(name),
                "scripts/appliance.sh general",
            ),
            Kernel::Cloud | Kernel::General => self.appliance(name),
        }
    }

    /// A program of a device.
    fn program(&self, name: &str) -> Result<PathBuf, MakerError> {
        there(
            self.device_programs.join(name),
            self.processor.device_programs().1,
        )
    }

    /// The firmware's code.
    ///
    /// # Errors
    /// When it is missing.
    pub fn firmware(&self) -> Result<PathBuf, MakerError> {
        self.appliance(self.processor.firmware().code)
    }
}

fn there(file: PathBuf, by: &'static str) -> Result<PathBuf, MakerError> {
    if file.exists() {
        Ok(file)
    } else {
        Err(MakerError::InputMissing { file, by })
    }
}

/// What is made.
#[derive(Clone, Copy, Debug)]
pub struct Order<'o> {
    /// What they are for.
    pub appliance: Appliance,
    /// The releases that are wanted besides the first.
    pub bundles: &'o [Bundle],
    /// Whether a disk with V1 in both sets is wanted too.
    pub both_sets: bool,
    /// The folder where everything goes but bundles; made when it is missing.
    pub folder: &'o Path,
    /// What the web server serves. The bundles go into its folder of that name ([`Appliance::folder`]).
    pub served: &'o Path,
}

impl Order<'_> {
    /// Whether a release is built.
    fn builds(&self, bundle: Bundle) -> bool {
        let wants = |bundle| self.bundles.contains(&bundle);
        match bundle {
            Bundle::V1 => true,
            Bundle::V2 => wants(Bundle::V2) || wants(Bundle::Damaged),
            Bundle::Damaged => false,
            other => wants(other),
        }
    }
}

/// Makes everything.
///
/// # Errors
/// [`MakerError`] for the first thing that cannot be made.
pub fn make(
    runner: &Runner,
    bundler: &Path,
    inputs: &Inputs,
    order: Order<'_>,
) -> Result<Made, MakerError> {
    let folder = order.folder;
    let bundles = order.served.join(order.appliance.folder());
    for made in [folder.join("keys"), folder.join("scratch"), bundles.clone()] {
        fs::create_dir_all(&made).map_err(MakerError::file(&made, "made"))?;
    }
    let maker = Maker {
        runner,
        bundler,
        inputs,
        appliance: order.appliance,
        folder,
        bundles,
    };
    maker.keys()?;
    maker.variables()?;
    let built: Vec<_> = Bundle::ALL
        .into_iter()
        .filter(|bundle| order.builds(*bundle))
        .collect();
    let mut made = HashMap::new();
    thread::scope(|scope| {
        let maker = &maker;
        // Two at a time: a bundle's builder compresses on one processor.
        for pair in built.chunks(2) {
            let threads: Vec<_> = pair
                .iter()
                .map(|bundle| (*bundle, scope.spawn(|| maker.build(*bundle))))
                .collect();
            for (bundle, thread) in threads {
                made.insert(
                    bundle,
                    thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                );
            }
        }
        Ok::<(), MakerError>(())
    })?;
    if order.bundles.contains(&Bundle::Damaged) {
        maker.damage()?;
    }
    maker.disk("factory.img", &[])?;
    if order.both_sets {
        maker.disk_of_both_sets()?;
    }
    Ok(Made {
        appliance: order.appliance,
        folder: folder.to_owned(),
        bundles: order.served.join(order.appliance.folder()),
        root: inputs.of_kernel(order.appliance.kernel, "light/rootfs.tar")?,
        built: made,
    })
}

struct Maker<'m> {
    runner: &'m Runner,
    bundler: &'m Path,
    inputs: &'m Inputs,
    appliance: Appliance,
    folder: &'m Path,
    bundles: PathBuf,
}

impl Maker<'_> {
    fn run(&self, invocation: Invocation) -> Result<Output, MakerError> {
        Ok(self.runner.run(&invocation)?.expect_success()?)
    }

    fn bundler(&self, command: &str) -> Invocation {
        Invocation::new(self.bundler).argument(command)
    }

    fn bundle_file(&self, bundle: Bundle) -> PathBuf {
        self.bundles.join(format!("{}.tseal", bundle.name()))
    }

    fn keys(&self) -> Result<(), MakerError> {
        let keys = self.folder.join("keys");
        for name in ["release", "foreign"] {
            let keygen = self.bundler("keygen").arguments(["--name", name, "--out"]);
            self.run(keygen.argument(&keys))?;
        }
        for name in ["platform", "exchange", "signer", "stranger"] {
            let file = |ending: &str| keys.join(format!("{name}.{ending}"));
            let owner = format!("Scenario {name}");
            tools::certificate(self.runner, &owner, &file("key"), &file("crt"))?;
        }
        Ok(())
    }

    fn variables(&self) -> Result<(), MakerError> {
        let certificate = |name: &str| self.folder.join(format!("keys/{name}.crt"));
        let certificates = Certificates {
            platform: certificate("platform"),
            exchange: certificate("exchange"),
            signer: certificate("signer"),
        };
        let program = variables::find_program(&self.inputs.tools)?;
        let empty = self
            .inputs
            .appliance(self.inputs.processor.firmware().variables)?;
        let out = self.folder.join("new-variables.fd");
        Ok(variables::make(
            self.runner,
            &program,
            &empty,
            &certificates,
            &out,
        )?)
    }

    /// Builds a bundle.
    fn build(&self, bundle: Bundle) -> Result<Built, MakerError> {
        overlay::make(self.folder, self.inputs, self.appliance, bundle)?;
        let recipe = self.folder.join(format!("{}.toml", bundle.name()));
        let text = recipe::recipe(self.folder, self.inputs, self.appliance, bundle)?;
        fs::write(&recipe, text).map_err(MakerError::file(&recipe, "written"))?;
        let file = self.bundle_file(bundle);
        self.run(
            self.bundler("build")
                .argument(&recipe)
                .argument("--out")
                .argument(&file),
        )?;
        let image = self.folder.join(format!("scratch/{}.erofs", bundle.name()));
        let extract =
            self.bundler("extract")
                .argument(&file)
                .arguments(["--blob", "composefs", "--out"]);
        self.run(extract.argument(&image))?;
        Ok(Built {
            seal: tools::digest(self.runner, &image)?,
            sizes: self.sizes(&file)?,
        })
    }

    fn sizes(&self, file: &Path) -> Result<Sizes, MakerError> {
        let inspect = self.bundler("inspect").arguments(["--json"]);
        let inspected: Inspected = self.run(inspect.argument(file))?.json()?;
        let ukis = inspected.blobs.iter().filter(|one| one.role == "uki");
        let about = fs::metadata(file).map_err(MakerError::file(file, "read"))?;
        Ok(Sizes {
            bundle_bytes: about.len(),
            uki_bytes: ukis.map(|uki| uki.stored_bytes).sum(),
        })
    }

    /// A copy of V2 with one bit changed in the middle.
    fn damage(&self) -> Result<(), MakerError> {
        let (from, to) = (
            self.bundle_file(Bundle::V2),
            self.bundle_file(Bundle::Damaged),
        );
        let about = fs::metadata(&from).map_err(MakerError::file(&from, "read"))?;
        tools::flip_bit(&from, &to, about.len() / 2).map_err(MakerError::file(&to, "written"))
    }

    fn disk(&self, name: &str, more: &[&str]) -> Result<(), MakerError> {
        let systemd_boot = match self.appliance.loader {
            Loader::Uefi => None,
            Loader::SystemdBoot => Some(self.systemd_boot()?),
        };
        Ok(tools::disk(
            self.runner,
            self.bundler,
            &self.bundle_file(Bundle::V1),
            &self.folder.join("keys/release.pub"),
            systemd_boot.as_deref(),
            &self.folder.join(name),
            more,
        )?)
    }

    /// As for a cloud, of a stated size and in QEMU's own format; what boots it here takes it raw.
    fn disk_of_both_sets(&self) -> Result<(), MakerError> {
        let made = "factory-both.qcow2";
        self.disk(made, &["--both", "--size", "2G", "--format", "qcow2"])?;
        let convert = Invocation::new("qemu-img")
            .arguments(["convert", "-f", "qcow2", "-O", "raw"])
            .argument(self.folder.join(made))
            .argument(self.folder.join(BOTH_SETS));
        self.run(convert).map(drop)
    }

    /// Debian's systemd-boot, signed by the owner.
    fn systemd_boot(&self) -> Result<PathBuf, MakerError> {
        let name = self.inputs.processor.systemd_boot();
        let (own, signed) = (self.inputs.appliance(name)?, self.folder.join(name));
        let key = |ending: &str| self.folder.join(format!("keys/signer.{ending}"));
        tools::sign(self.runner, &own, &key("key"), &key("crt"), &signed)?;
        Ok(signed)
    }
}
