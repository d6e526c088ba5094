"""SWUpdate as a contestant: own keys, one .swu that is not compressed, the raw handler writing as it reads."""

import os

from measure import call, child_of, run

DESCRIPTION = """software = {{
  version = "1.0";
  hardware-compatibility: ["1.0"];
  images: ({{
    filename = "system.img";
    type = "raw";
    device = "{target}";
    sha256 = "{digest}";
    installed-directly = true;
  }});
}}
"""


class Swupdate:
    """`swupdate -i` of a local file."""

    name = "SWUpdate"

    def __init__(self, image, target, work):
        self.image, self.target = image, target
        self.folder = child_of(work, "swupdate")
        self.bundle = self.folder / "bundle.swu"
        self.certificate = self.folder / "certificate.pem"
        # Its sockets and temporary files.
        self.environment = {**os.environ, "TMPDIR": str(child_of(self.folder, "temporary"))}

    def prepare(self):
        """Makes keys and bundle. Debian's SWUpdate takes only what is signed with CMS."""
        key, description = self.folder / "key.pem", self.folder / "sw-description"
        call(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench", "-days", "30",
              "-addext", "extendedKeyUsage=emailProtection", "-keyout", key, "-out", self.certificate])
        digest = call(["sha256sum", self.image]).split()[0]
        description.write_text(DESCRIPTION.format(target=self.target, digest=digest))
        call(["openssl", "cms", "-sign", "-in", description, "-out", f"{description}.sig", "-signer", self.certificate,
              "-inkey", key, "-outform", "DER", "-nosmimecap", "-binary"])
        os.link(self.image, self.folder / "system.img")
        call(["sh", "-c", "printf '%s\\n' sw-description sw-description.sig system.img | cpio --quiet -o -H newc >bundle.swu"],
             cwd=self.folder)

    def install(self, scratch):
        """One measured install."""
        return run(["swupdate", "-k", self.certificate, "-H", "bench:1.0", "-i", self.bundle], scratch, self.environment)
