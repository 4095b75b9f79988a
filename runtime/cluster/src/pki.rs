//! The cluster's own certificate authority, its server certificate and its administrator's client certificate.
//!
//! The authority lives as long as the state directory; certificates are made anew at each start when less than a third of their life is left, so that none
//! runs out on a cluster that is restarted once a year or runs through.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ClusterError;

const AUTHORITY_DAYS: i64 = 3650;
const CERTIFICATE_DAYS: i64 = 365;
/// Tolerates clocks that are a little behind.
const BACKDATE_SECONDS: i64 = 3600;

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// PEM of the certificate.
    pub certificate: String,
    /// PEM of the private key.
    pub key: String,
}

/// Everything that TLS needs.
#[derive(Clone)]
pub struct Pki {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// For the API server.
    pub server: Pair,
    /// `system:admin` in group `system:masters`.
    pub admin: Pair,
}

/// Loads the authority below `dir` or makes it, and the certificates where they are missing, near their end, or for other names.
///
/// # Errors
/// Files that cannot be read or written, and keys that cannot be made.
pub fn open(dir: &Path, names: &[String], addresses: &[IpAddr], now: jiff::Timestamp) -> Result<Pki, ClusterError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| ClusterError::Write { path: dir.to_owned(), source })?;
    let authority = load_or(dir, "ca", |_| true, || authority(now))?;
    let issuer_key = KeyPair::from_pem(&authority.key).map_err(ClusterError::Certificate)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, &issuer_key).map_err(ClusterError::Certificate)?;
    let fresh = |pem: &str| remaining_seconds(pem, now).is_some_and(|left| left > CERTIFICATE_DAYS * 86_400 / 3);
    let described = format!("{names:?} {addresses:?}");
    let same_names = fs::read_to_string(dir.join("server.names")).is_ok_and(|text| text == described);
    let server = load_or(dir, "server", |pem| same_names && fresh(pem), || server(&issuer, names, addresses, now))?;
    write_private(&dir.join("server.names"), &described)?;
    let admin = load_or(dir, "admin", fresh, || client(&issuer, "system:admin", "system:masters", now))?;
    Ok(Pki { authority: authority.certificate.clone(), server, admin })
}

fn load_or(dir: &Path, name: &str, good: impl Fn(&str) -> bool, make: impl FnOnce() -> Result<Pair, rcgen::Error>) -> Result<Pair, ClusterError> {
    let (certificate_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    if let (Ok(certificate), Ok(key)) = (fs::read_to_string(&certificate_path), fs::read_to_string(&key_path))
        && good(&certificate)
    {
        return Ok(Pair { certificate, key });
    }
    let pair = make().map_err(ClusterError::Certificate)?;
    write_private(&key_path, &pair.key)?;
    write_private(&certificate_path, &pair.certificate)?;
    Ok(pair)
}

/// Writes a file that only its owner reads, in one step.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Write { path: path.to_owned(), source };
    let temporary: PathBuf = path.with_extension("new");
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

fn remaining_seconds(pem: &str, now: jiff::Timestamp) -> Option<i64> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Some(certificate.validity().not_after.timestamp() - now.as_second())
}

fn params(name: &str, organisation: Option<&str>, days: i64, now: jiff::Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    params.distinguished_name = subject;
    let at = |seconds: i64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = at(now.as_second() - BACKDATE_SECONDS).into();
    params.not_after = at(now.as_second() + days * 86_400).into();
    params
}

fn authority(now: jiff::Timestamp) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params("strake", None, AUTHORITY_DAYS, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn server(issuer: &Issuer<'_, &KeyPair>, names: &[String], addresses: &[IpAddr], now: jiff::Timestamp) -> Result<Pair, rcgen::Error> {
    let mut params = params("strake-api", None, CERTIFICATE_DAYS, now);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    sign(params, issuer)
}

fn client(issuer: &Issuer<'_, &KeyPair>, name: &str, group: &str, now: jiff::Timestamp) -> Result<Pair, rcgen::Error> {
    let mut params = params(name, Some(group), CERTIFICATE_DAYS, now);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    sign(params, issuer)
}

fn sign(params: CertificateParams, issuer: &Issuer<'_, &KeyPair>) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Name and groups of a verified client certificate (Kubernetes' reading: CN is the user, each O a group).
pub fn identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = certificate.subject().iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    Some((name, groups))
}

#[cfg(test)]
mod tests {
    use super::{identity, open};

    #[test]
    fn certificates_are_kept_and_renewed_near_their_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let now = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
        let names = ["localhost".to_owned()];
        let first = open(dir.path(), &names, &[], now).expect("made");
        let again = open(dir.path(), &names, &[], now).expect("loaded");
        assert_eq!(first.server.certificate, again.server.certificate);
        let late = jiff::Timestamp::from_second(1_800_000_000 + 300 * 86_400).expect("a time");
        let renewed = open(dir.path(), &names, &[], late).expect("renewed");
        assert_ne!(first.admin.certificate, renewed.admin.certificate);
        assert_eq!(first.authority, renewed.authority);
        let (_, block) = x509_parser::pem::parse_x509_pem(first.admin.certificate.as_bytes()).expect("PEM");
        assert_eq!(identity(&block.contents), Some(("system:admin".to_owned(), vec!["system:masters".to_owned()])));
    }

    #[test]
    fn keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let now = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
        open(dir.path(), &[], &[], now).expect("made");
        for entry in std::fs::read_dir(dir.path()).expect("a directory") {
            let mode = entry.expect("an entry").metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }
}
