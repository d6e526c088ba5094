//! Runs a command and prints what it found.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::CommandFactory;
use serde::Serialize;

use super::progress::ProgressLine;
use super::{
    BuildArguments, Cli, Clock, Command, DiffArguments, DiskArguments, ExtractArguments,
    InitramfsArguments, InspectArguments, KeygenArguments, Loader, SignArguments, VerifyArguments,
};
use crate::assemble::write_new;
use crate::build::build_watched;
use crate::diff::diff;
use crate::disk::{self, DiskError, DiskOptions, Wanted};
use crate::error::{Error, FileOperation};
use crate::exit;
use crate::extract::{extract_all, extract_blob};
use crate::initramfs::{Early, assemble};
use crate::inspect::{Bytes, hex, inspect};
use crate::keys::{KeyError, PublicKey, SIGNATURE_BYTES, SigningKey, generate_into, key_id_text};
use crate::read::Bundle;
use crate::recipe::{RecipeError, read_file};
use crate::sign::{attach_signature, sign_bundle, signed_bytes};
use crate::vectors;
use crate::verify::{Device, Report, verify, verify_patches, verify_stream};

/// Section of the manual: user commands (man(1)).
const MANUAL_SECTION: &str = "1";

/// Runs a command. What it prints goes to standard output.
///
/// # Errors
/// Whatever the command fails with; [`exit::exit_code_of`] gives its exit code.
pub fn run(cli: &Cli) -> Result<(), Error> {
    match &cli.command {
        Command::Keygen(arguments) => keygen(arguments),
        Command::Build(arguments) => run_build(arguments),
        Command::Initramfs(arguments) => run_initramfs(arguments),
        Command::Sign(arguments) => sign(arguments),
        Command::Inspect(arguments) => run_inspect(arguments),
        Command::Extract(arguments) => extract(arguments),
        Command::Verify(arguments) => run_verify(arguments),
        Command::Disk(arguments) => run_disk(arguments),
        Command::Diff(arguments) => run_diff(arguments),
        Command::Vectors { out } => {
            let count = vectors::write(out)?;
            print(&format!(
                "{count} bundles and vectors.toml in {}\n",
                out.display()
            ))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "twinseal-bundle", &mut script);
            print_bytes(&script)
        }
        Command::Man { dir } => man(dir.as_deref()),
    }
}

fn keygen(arguments: &KeygenArguments) -> Result<(), Error> {
    let files = generate_into(&arguments.out, &arguments.name)?;
    let (private, public) = (files.private.display(), files.public.display());
    print(&format!(
        "key {}\n  {private}  keep it secret\n  {public}  goes into devices\n",
        key_id_text(&files.id)
    ))
}

fn run_build(arguments: &BuildArguments) -> Result<(), Error> {
    let ingredients = arguments.recipe()?.ingredients()?;
    let progress = ProgressLine::default();
    let built = build_watched(&ingredients, &arguments.out, &|now| progress.show(now))?;
    progress.clear();
    let mut text = format!(
        "{}: {} ({} bytes)\n",
        arguments.out.display(),
        Bytes(built.bundle_bytes),
        built.bundle_bytes
    );
    text += &format!("manifest  {}\n", hex(&built.manifest_sha256));
    if let Some(seal) = built.manifest.seal {
        text += &format!("seal      {seal}\n");
    }
    if ingredients.sign.is_empty() {
        text += "signed by nobody: `twinseal-bundle sign` signs it\n";
    }
    print(&text)
}

fn run_initramfs(arguments: &InitramfsArguments) -> Result<(), Error> {
    let archive = assemble(&Early {
        init: arguments.init.clone(),
        modules: arguments.modules.clone(),
        recovery: None,
    })?;
    let bytes = write_new(&arguments.out, |out| out.write_all(&archive))?;
    print(&format!("{}: {bytes} bytes\n", arguments.out.display()))
}

fn sign(arguments: &SignArguments) -> Result<(), Error> {
    let path = &arguments.bundle;
    if arguments.print_signed_bytes {
        return print_bytes(&signed_bytes(Bundle::open(path)?.manifest_entry()));
    }
    if let (Some(signature), Some(public_key)) = (&arguments.attach, &arguments.public_key) {
        let key = PublicKey::read(public_key)?;
        let bytes = read_file(signature, "signature", 64 * SIGNATURE_BYTES as u64)?;
        if bytes.len() != SIGNATURE_BYTES {
            return Err(KeyError::SignatureLength(bytes.len()).into());
        }
        attach_signature(path, &bytes, &key)?;
        return print(&format!(
            "{}: signed by key {}\n",
            path.display(),
            key_id_text(&key.id())
        ));
    }
    let keys = arguments
        .key
        .iter()
        .map(|path| SigningKey::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    sign_bundle(path, &keys)?;
    let lines = keys.iter().map(|key| {
        format!(
            "{}: signed by key {}\n",
            path.display(),
            key_id_text(&key.public().id())
        )
    });
    print(&lines.collect::<String>())
}

fn run_inspect(arguments: &InspectArguments) -> Result<(), Error> {
    let report = inspect(&arguments.bundle, arguments.files)?;
    if arguments.json {
        return print_json(&report);
    }
    let mut text = report.to_string();
    if arguments.objects {
        text += "\n";
        text += &report.blob_lines();
    }
    if arguments.files {
        text += "\n";
        text += &report.file_lines();
    }
    print(&text)
}

fn extract(arguments: &ExtractArguments) -> Result<(), Error> {
    if let (Some(blob), Some(out)) = (&arguments.blob, &arguments.out) {
        let what = extract_blob(&arguments.bundle, blob, out)?;
        return print(&format!("{}: {what}\n", out.display()));
    }
    let Some(directory) = &arguments.all else {
        return Ok(());
    };
    let count = extract_all(&arguments.bundle, directory)?;
    print(&format!("{count} files in {}\n", directory.display()))
}

/// What `verify --json` prints.
#[derive(Serialize)]
struct VerifyResult {
    manifest_sha256: String,
    signers: Vec<String>,
    compatible: String,
    version: String,
    anti_rollback: u64,
    seal: Option<String>,
    blobs: u32,
    written_bytes: u64,
    source_bytes: u64,
    unused_objects: Vec<String>,
    patches_checked: u32,
    patches_stored_bytes: u64,
    patches_bytes: u64,
}

impl From<&Report> for VerifyResult {
    fn from(report: &Report) -> Self {
        Self {
            manifest_sha256: hex(&report.manifest_sha256),
            signers: report.signers.iter().map(key_id_text).collect(),
            compatible: report.manifest.compatible.to_string(),
            version: report.manifest.version.to_string(),
            anti_rollback: report.manifest.anti_rollback,
            seal: report.manifest.seal.map(|seal| seal.to_string()),
            blobs: report.tally.blobs,
            written_bytes: report.tally.written_bytes,
            source_bytes: report.tally.source_bytes(),
            unused_objects: report
                .unused_objects
                .iter()
                .map(ToString::to_string)
                .collect(),
            patches_checked: 0,
            patches_stored_bytes: 0,
            patches_bytes: 0,
        }
    }
}

fn run_verify(arguments: &VerifyArguments) -> Result<(), Error> {
    let time = match arguments.time {
        Some(Clock::At(moment)) => Some(moment.seconds()),
        Some(Clock::None) => None,
        // A clock before 1970 is no clock.
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs()),
    };
    let device = Device {
        keys: arguments
            .key
            .iter()
            .map(|path| PublicKey::read(path))
            .collect::<Result<_, _>>()?,
        compatible: arguments.compatible.clone(),
        floor: arguments.floor,
        time,
        slots: Some(arguments.slot.clone()).filter(|slots| !slots.is_empty()),
    };
    let stream = arguments.bundle == Path::new("-");
    if stream && !arguments.base.is_empty() {
        return Err(RecipeError::Both("--base", "standard input").into());
    }
    let report = if stream {
        verify_stream(io::stdin().lock(), &device)?
    } else {
        verify(&arguments.bundle, &device)?
    };
    let mut result = VerifyResult::from(&report);
    if !arguments.base.is_empty() {
        let checked = verify_patches(&arguments.bundle, &arguments.base)?;
        result.patches_checked = checked.patches;
        result.patches_stored_bytes = checked.stored_bytes;
        result.patches_bytes = checked.bytes;
    }
    if arguments.json {
        return print_json(&result);
    }
    print(&verify_text(&result))
}

fn verify_text(result: &VerifyResult) -> String {
    let (written, source) = (Bytes(result.written_bytes), Bytes(result.source_bytes));
    let mut text = format!("signature   right, by key {}\n", result.signers.join(", "));
    text += &format!(
        "manifest    {} {}, anti-rollback {}: allowed\n",
        result.compatible, result.version, result.anti_rollback
    );
    text += &format!(
        "data        {} blobs right, {written} from {source}\n",
        result.blobs
    );
    text += match result.seal {
        Some(_) => {
            "seal        the UKI seals the composefs image, and every object that it names is there\n"
        }
        None => "seal        none: the bundle has images for slots and no system\n",
    };
    if result.patches_checked > 0 {
        let (stored, bytes) = (
            Bytes(result.patches_stored_bytes),
            Bytes(result.patches_bytes),
        );
        text += &format!(
            "patches     {} right, {bytes} from {stored}\n",
            result.patches_checked
        );
    }
    if !result.unused_objects.is_empty() {
        text += &format!(
            "note        {} objects are carried and not named by the image\n",
            result.unused_objects.len()
        );
    }
    text
}

fn run_disk(arguments: &DiskArguments) -> Result<(), Error> {
    if arguments.loader == Loader::Uefi && arguments.systemd_boot.is_some() {
        return Err(DiskError::SystemdBootNotWanted.into());
    }
    let options = DiskOptions {
        wanted: Wanted {
            disk: arguments.size,
            boot: arguments.boot_bytes,
            root: arguments.root_bytes,
        },
        both: arguments.both,
        systemd_boot: arguments.systemd_boot.clone(),
        format: arguments.format,
        keys: arguments
            .trusted_key
            .iter()
            .map(|path| PublicKey::read(path))
            .collect::<Result<_, _>>()?,
    };
    let made = disk::make(&arguments.bundle, &arguments.out, &options)?;
    let signers: Vec<String> = made.signers.iter().map(key_id_text).collect();
    let signature = if signers.is_empty() {
        "not checked: give --trusted-key".to_owned()
    } else {
        format!("right, by key {}", signers.join(", "))
    };
    let out = arguments.out.display();
    let mut text = format!("{out}: a disk of {} bytes\n", made.bytes);
    text += &format!("manifest    {}\n", hex(&made.manifest_sha256));
    text += &format!("signature   {signature}\n");
    for partition in &made.partitions {
        let (start, bytes) = (partition.start, partition.bytes);
        text += &format!("{:<11} {bytes} bytes at {start}\n", partition.label);
    }
    print(&text)
}

fn run_diff(arguments: &DiffArguments) -> Result<(), Error> {
    let difference = diff(&arguments.old, &arguments.new)?;
    if arguments.json {
        print_json(&difference)
    } else {
        print(&difference.to_string())
    }
}

fn man(directory: Option<&Path>) -> Result<(), Error> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = directory else {
        let mut page = Vec::new();
        write_page(command, &mut page)
            .map_err(FileOperation::Write.on(Path::new("standard output")))?;
        return print_bytes(&page);
    };
    std::fs::create_dir_all(directory).map_err(FileOperation::Create.on(directory))?;
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    for command in [command].into_iter().chain(below) {
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name())
            .to_owned();
        let path = directory.join(format!("{name}.{MANUAL_SECTION}"));
        let mut page = Vec::new();
        write_page(command, &mut page)
            .and_then(|()| std::fs::write(&path, page))
            .map_err(FileOperation::Write.on(&path))?;
    }
    Ok(())
}

fn write_page(command: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    use clap_mangen::roff::{Roff, bold, roman};
    clap_mangen::Man::new(command)
        .section(MANUAL_SECTION)
        .manual("twinseal")
        .render(out)?;
    let mut codes = Roff::new();
    codes.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::TABLE {
        codes.control("TP", []);
        codes.text([bold(code.to_string())]);
        codes.text([roman(*meaning)]);
    }
    codes.to_writer(out)
}

fn print_json<T: Serialize>(value: &T) -> Result<(), Error> {
    let standard_output = FileOperation::Write.on(Path::new("standard output"));
    let text =
        serde_json::to_string_pretty(value).map_err(|error| standard_output(error.into()))?;
    print(&(text + "\n"))
}

fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes())
}

/// A reader that goes away is no failure.
fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(FileOperation::Write.on(Path::new("standard output"))(error))
        }
        _ => Ok(()),
    }
}
