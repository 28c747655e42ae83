//! Certificates for a broker on loopback: an authority, the broker's certificate and one for a client, made by the
//! `openssl` program and kept with the broker's data.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::project;

/// PEM files of a broker that speaks TLS.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The authority that signed the others: what a client is to trust.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The certificate of a client, whose principal is `User:CN=client`.
    pub fn client_certificate(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    /// The private key that goes with [`Self::client_certificate`].
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    /// The broker's private key and certificate in one file, as Kafka reads them.
    pub(super) fn broker_store(&self) -> PathBuf {
        self.folder.join("broker-store.pem")
    }

    /// Makes all files in `folder`, unless they are there.
    pub(super) fn make(folder: PathBuf) -> Result<Self> {
        let certificates = Self { folder };
        if !certificates.broker_store().is_file() {
            std::fs::create_dir_all(&certificates.folder)?;
            certificates.make_files().context("certificates could not be made (`apt-get install openssl`?)")?;
        }
        Ok(certificates)
    }

    fn make_files(&self) -> Result<()> {
        self.openssl(
            &format!("req -x509 -days 3650 -subj /CN=loginscope-development {}", new_key("authority")),
            "authority.pem",
        )?;
        self.sign("broker", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
        self.sign("client", "client", "extendedKeyUsage=clientAuth\n")?;
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name));
        let store = read("broker.key")? + &read("broker.pem")?;
        Ok(std::fs::write(self.broker_store(), store)?)
    }

    /// A key and a certificate for it, `name.key` and `name.pem`, signed by the authority.
    fn sign(&self, name: &str, common_name: &str, extensions: &str) -> Result<()> {
        let (request, extension_file) = (format!("{name}.request"), format!("{name}.extensions"));
        std::fs::write(self.folder.join(&extension_file), extensions)?;
        self.openssl(&format!("req -subj /CN={common_name} {}", new_key(name)), &request)?;
        let authority = "-CA authority.pem -CAkey authority.key -CAcreateserial";
        let what = format!("x509 -req -days 3650 -in {request} {authority} -extfile {extension_file}");
        self.openssl(&what, &format!("{name}.pem"))
    }

    fn openssl(&self, arguments: &str, output: &str) -> Result<()> {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(arguments.split(' ')).args(["-out", output]);
        project::finished(&mut command).map(drop)
    }
}

/// Arguments for a new unencrypted private key in PKCS#8, the form Kafka reads.
fn new_key(name: &str) -> String {
    format!("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key")
}

/// Whether the program that makes certificates is there.
pub(super) fn can_be_made() -> Result<()> {
    project::finished(Command::new("openssl").arg("version"))
        .map(drop)
        .context("certificates for TLS tests are made by the program `openssl`: `apt-get install openssl`")
}

/// A path inside the certificates' folder, for Kafka's configuration.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_and_the_client_are_signed_by_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(folder.path().join("tls")).unwrap();
        for signed in [certificates.client_certificate(), folder.path().join("tls/broker.pem")] {
            let mut verify = Command::new("openssl");
            verify.arg("verify").arg("-CAfile").arg(certificates.authority()).arg(signed);
            project::finished(&mut verify).unwrap();
        }
        let store = std::fs::read_to_string(certificates.broker_store()).unwrap();
        assert!(store.contains("BEGIN PRIVATE KEY") && store.contains("BEGIN CERTIFICATE"), "{store}");
    }
}
