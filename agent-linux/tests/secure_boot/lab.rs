//! Keys, signatures and a firmware's variables, made by other people's tools, and their verdict beside ours.

use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;
use twinseal::config::Description;
use twinseal::secure_boot::{self, Image, Refusal};

const OWNER: &str = "77777777-7777-7777-7777-777777777777";
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
pub const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// A folder with keys, and a firmware whose variables are files there.
pub struct Lab {
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(lab.at("efivars")).unwrap();
        lab.secure_boot(1);
        lab
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Output {
        let output = Command::new(tool)
            .args(arguments)
            .current_dir(self.folder.path())
            .output();
        output.unwrap_or_else(|error| {
            panic!("{tool} cannot be run ({error}); install openssl and sbsigntool")
        })
    }

    fn ok(&self, tool: &str, arguments: &[&str]) {
        let output = self.run(tool, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?}: {said}");
    }

    /// A key and a certificate; `issuer` signs it, or it signs itself.
    pub fn pair(&self, name: &str, issuer: Option<&str>, authority: bool) -> &Self {
        let (key, crt, subject) = (
            format!("{name}.key"),
            format!("{name}.crt"),
            format!("/O=Acme/CN={name}"),
        );
        let constraints = format!("basicConstraints=critical,CA:{authority}").to_uppercase();
        let constraints = constraints
            .replace("BASICCONSTRAINTS", "basicConstraints")
            .replace("CRITICAL", "critical");
        let mut arguments = vec![
            "req",
            "-new",
            "-x509",
            "-nodes",
            "-newkey",
            "rsa:2048",
            "-days",
            "30",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &crt,
            "-addext",
            &constraints,
            "-config",
            "/dev/null",
        ];
        let (ca, ca_key);
        if let Some(issuer) = issuer {
            (ca, ca_key) = (format!("{issuer}.crt"), format!("{issuer}.key"));
            arguments.extend(["-CA", &ca, "-CAkey", &ca_key]);
        }
        self.ok("openssl", &arguments);
        self.ok(
            "openssl",
            &[
                "x509",
                "-in",
                &crt,
                "-outform",
                "DER",
                "-out",
                &format!("{name}.der"),
            ],
        );
        self
    }

    /// The image with one more signature, by `signer`, with these certificates beside its own.
    pub fn sign(&self, image: &[u8], signer: &str, beside: &[&str]) -> Vec<u8> {
        fs::write(self.at("to-sign.efi"), image).unwrap();
        let mut bundle = Vec::new();
        for name in beside {
            bundle.extend(fs::read(self.at(&format!("{name}.crt"))).unwrap());
        }
        fs::write(self.at("beside.pem"), &bundle).unwrap();
        let (key, crt) = (format!("{signer}.key"), format!("{signer}.crt"));
        let mut arguments = vec!["--key", &key, "--cert", &crt, "--output", "signed.efi"];
        if !beside.is_empty() {
            arguments.extend(["--addcert", "beside.pem"]);
        }
        arguments.push("to-sign.efi");
        self.ok("sbsign", &arguments);
        fs::read(self.at("signed.efi")).unwrap()
    }

    pub fn sbverify(&self, image: &[u8], certificate: &str) -> bool {
        fs::write(self.at("verified.efi"), image).unwrap();
        let certificate = format!("{certificate}.crt");
        let output = self.run("sbverify", &["--cert", &certificate, "verified.efi"]);
        output.status.success()
    }

    pub fn secure_boot(&self, value: u8) {
        self.variable(&format!("SecureBoot-{GLOBAL}"), &[value]);
    }

    pub fn variable(&self, name: &str, content: &[u8]) {
        let bytes = [&[0x27, 0, 0, 0], content].concat();
        fs::write(self.at("efivars").join(name), bytes).unwrap();
    }

    /// Fills `db` or `dbx` with certificates (by name) and hashes.
    pub fn database(&self, name: &str, certificates: &[&str], hashes: &[[u8; 32]]) {
        let mut lists = Vec::new();
        for certificate in certificates {
            lists.extend(self.list("x509", &format!("{certificate}.der")));
        }
        for hash in hashes {
            fs::write(self.at("hash"), hash).unwrap();
            lists.extend(self.list("sha256", "hash"));
        }
        self.variable(&format!("{name}-{DATABASE}"), &lists);
    }

    fn list(&self, kind: &str, file: &str) -> Vec<u8> {
        self.ok(
            "sbsiglist",
            &["--owner", OWNER, "--type", kind, "--output", "list", file],
        );
        fs::read(self.at("list")).unwrap()
    }

    /// The hash of what the issuer of a certificate signed, cut out by openssl.
    pub fn signed_part_sha256(&self, name: &str) -> [u8; 32] {
        let der = format!("{name}.der");
        self.ok(
            "openssl",
            &[
                "asn1parse",
                "-inform",
                "DER",
                "-in",
                &der,
                "-strparse",
                "4",
                "-noout",
                "-out",
                "signed-part",
            ],
        );
        Sha256::digest(fs::read(self.at("signed-part")).unwrap()).into()
    }

    pub fn description(&self) -> Description {
        let text =
            "compatible = \"acme-gateway\"\n[boot]\nloader = \"uefi\"\nvariables = \"efivars\"";
        Description::parse(text, self.folder.path()).unwrap()
    }

    pub fn verdict(&self, image: &[u8]) -> Result<(), Refusal> {
        let trust = secure_boot::trusted(&self.description(), Some("/")).unwrap();
        trust.unwrap().judge(&read(image))
    }

    /// The verdict with these certificates in `db`, which must be that of `sbverify`.
    pub fn agreed(&self, image: &[u8], db: &[&str]) -> Result<(), Refusal> {
        self.database("db", db, &[]);
        let ours = self.verdict(image);
        let theirs = db.iter().any(|name| self.sbverify(image, name));
        assert_eq!(ours.is_ok(), theirs, "{db:?}: {ours:?}");
        ours
    }
}

/// What the firmware compares of an image.
pub fn read(image: &[u8]) -> Image {
    Image::read(image.len() as u64, |offset, buffer| {
        let offset = offset as usize;
        buffer.copy_from_slice(&image[offset..offset + buffer.len()]);
        Ok(())
    })
    .unwrap()
}
