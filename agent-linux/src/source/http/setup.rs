//! What TLS needs before a server is asked: trust anchors, and the device's own certificate.
//!
//! # Invariants
//! - What is wrong with a file is said with its name, before a connection is made.

use crate::config::{Identity, Network};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Why this device cannot ask any server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupProblem {
    /// A file cannot be read.
    #[error("{} cannot be read ({error})", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// A file has no certificate.
    #[error("{} has no certificate in PEM", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// A certificate cannot be read.
    #[error("{} has a certificate that cannot be read ({error})", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// There is no key, or none for the certificate.
    #[error("{} has no private key that goes with the certificate ({error})", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// Nobody says whom to trust.
    #[error(
        "this system has no trust anchors for https: addresses; name a PEM file with trust in [network] of the device description"
    )]
    NoAnchors,
    /// The proxy is not one.
    #[error("the address of the proxy must be http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT")]
    Proxy,
}

/// The settings of TLS, with the device's own certificate or without it.
pub(super) fn tls(network: &Network, with_identity: bool) -> Result<TlsConfig, SetupProblem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let identity = network.identity.as_ref().filter(|_| with_identity);
    let client = identity
        .map(|identity| client_certificate(identity, &provider))
        .transpose()?;
    Ok(TlsConfig::builder()
        .root_certs(anchors(network)?)
        .client_cert(client)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn anchors(network: &Network) -> Result<RootCerts, SetupProblem> {
    let certificates = match &network.trust {
        Some(file) => {
            let certificates = certificates(file)?;
            for certificate in &certificates {
                let readable = RootCertStore::empty().add(certificate.clone());
                readable.map_err(|error| SetupProblem::Certificate {
                    file: file.clone(),
                    error: error.to_string(),
                })?;
            }
            certificates
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        return Err(SetupProblem::NoAnchors);
    }
    Ok(certificates
        .iter()
        .map(for_client)
        .collect::<Vec<_>>()
        .into())
}

fn client_certificate(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<ClientCert, SetupProblem> {
    let chain = certificates(&identity.certificate)?;
    let file = &identity.key;
    let wrong = |error: String| SetupProblem::Key {
        file: file.clone(),
        error,
    };
    let pem = read(file)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))?;
    CertifiedKey::from_der(chain.clone(), key, provider)
        .map_err(|error| wrong(error.to_string()))?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
    let chain: Vec<_> = chain.iter().map(for_client).collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SetupProblem> {
    let pem = read(file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|error| SetupProblem::Certificate {
        file: file.to_owned(),
        error: error.to_string(),
    })?;
    if certificates.is_empty() {
        return Err(SetupProblem::NoCertificate {
            file: file.to_owned(),
        });
    }
    Ok(certificates)
}

fn read(file: &Path) -> Result<Vec<u8>, SetupProblem> {
    std::fs::read(file).map_err(|error| SetupProblem::Unreadable {
        file: file.to_owned(),
        error: error.to_string(),
    })
}

fn for_client(certificate: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}
