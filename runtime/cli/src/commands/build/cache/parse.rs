//! What can be said after `--cache-from` and `--cache-to`.

use std::path::{Path, PathBuf};

use strake_build::MountChoice;
use strake_store::Packing;

use super::{CacheFrom, CacheTo, Place};
use crate::commands::build::output::{fields, flag};
use crate::commands::images::full;
use crate::commands::transfer::{at_level, compression};
use crate::failure::Failure;

/// The tag of a local cache that names none.
pub const TAG: &str = "latest";

/// Everything that can stand there, whichever way it goes.
#[derive(Default)]
struct Words {
    kind: String,
    reference: Option<String>,
    dir: Option<PathBuf>,
    tag: Option<String>,
    digest: Option<String>,
    every_step: bool,
    compression: Option<Packing>,
    level: Option<String>,
    mounts: MountChoice,
    ignore_error: bool,
    insecure: bool,
    reset: bool,
}

/// Which way a cache goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    From,
    To,
}

/// One `--cache-from`.
pub fn from(text: &str) -> Result<CacheFrom, Failure> {
    let wrong = |what: String| Failure::text(format!("--cache-from {text}: {what}")).with_code(2);
    let words = read(text, Way::From).map_err(wrong)?;
    if words.kind == "inline" {
        return Err(wrong("an inline cache is read from its image: type=registry,ref=IMAGE".to_owned()));
    }
    let mounts = words.mounts.clone();
    Ok(CacheFrom { place: place(words, Way::From).map_err(wrong)?, mounts })
}

/// One `--cache-to`.
pub fn to(text: &str) -> Result<CacheTo, Failure> {
    let wrong = |what: String| Failure::text(format!("--cache-to {text}: {what}")).with_code(2);
    let words = read(text, Way::To).map_err(wrong)?;
    if words.kind == "inline" && (words.every_step || words.mounts != MountChoice::None) {
        return Err(wrong("an inline cache holds the image's own layers only: mode=max and mounts need type=registry or type=local".to_owned()));
    }
    let (every_step, ignore_error, mounts) = (words.every_step, words.ignore_error, words.mounts.clone());
    let compression = at_level(words.compression, words.level.as_deref()).map_err(wrong)?.unwrap_or_default();
    Ok(CacheTo { place: place(words, Way::To).map_err(wrong)?, every_step, compression, mounts, ignore_error, parts: Vec::new(), share: None })
}

fn read(text: &str, way: Way) -> Result<Words, String> {
    let mut words = Words::default();
    if !text.contains('=') {
        (words.kind, words.reference) = ("registry".to_owned(), Some(text.to_owned()));
        return Ok(words);
    }
    for field in fields(text).ok_or("a quote is not closed")? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        words.take(key.trim(), value, way)?;
    }
    match words.kind.as_str() {
        "registry" | "local" | "inline" => Ok(words),
        "gha" | "s3" | "azblob" => Err(format!("type={} is not supported: use type=registry or type=local", words.kind)),
        "" => Err("expected type=registry, local or inline".to_owned()),
        other => Err(format!("type {other} is not known: registry, local and inline are")),
    }
}

impl Words {
    fn take(&mut self, key: &str, value: &str, way: Way) -> Result<(), String> {
        let truth = || flag(value).ok_or_else(|| format!("`{key}={value}`: expected true or false"));
        match (key, way) {
            ("type", _) => self.kind = value.to_owned(),
            // What a backend that is refused by its name would take.
            _ if matches!(self.kind.as_str(), "gha" | "s3" | "azblob") => {}
            ("ref", _) => self.reference = Some(value.to_owned()),
            ("src", Way::From) | ("dest", Way::To) => self.dir = Some(value.into()),
            ("tag", _) => self.tag = Some(value.to_owned()),
            ("digest", Way::From) => self.digest = Some(value.to_owned()),
            ("registry.insecure", _) => self.insecure = truth()?,
            ("mounts", _) => self.mounts = more(&self.mounts, value),
            ("mode", Way::To) if value == "max" || value == "min" => self.every_step = value == "max",
            ("mode", Way::To) => return Err(format!("mode={value}: expected min or max")),
            ("ignore-error", Way::To) => self.ignore_error = truth()?,
            ("reset", Way::To) => self.reset = truth()?,
            ("compression", Way::To) => {
                self.compression = Some(compression(value).ok_or_else(|| format!("compression={value}: expected gzip, zstd or uncompressed"))?);
            }
            ("compression-level", Way::To) => self.level = Some(value.to_owned()),
            // What strake does anyway.
            ("oci-mediatypes" | "image-manifest" | "force-compression", Way::To) if flag(value) == Some(true) => {}
            ("oci-mediatypes" | "image-manifest", Way::To) => return Err(format!("`{key}={value}`: a cache is always an OCI image manifest")),
            ("force-compression", Way::To) => return Err(format!("`{key}={value}`: all layers get the compression that is asked for")),
            (_, Way::From) => return Err(format!("`{key}` is not supported: expected type, ref, src, tag, digest, mounts or registry.insecure")),
            (_, Way::To) => {
                let known = "type, ref, dest, tag, reset, mode, compression, compression-level, mounts, ignore-error or registry.insecure";
                return Err(format!("`{key}` is not supported: expected {known}"));
            }
        }
        Ok(())
    }
}

/// `mounts=true`, `mounts=ID`, the latter repeated.
fn more(known: &MountChoice, value: &str) -> MountChoice {
    match (flag(value), known) {
        (Some(true), _) => MountChoice::All,
        (Some(false), _) => MountChoice::None,
        (None, MountChoice::These(ids)) => MountChoice::These(ids.iter().cloned().chain([value.to_owned()]).collect()),
        (None, MountChoice::All) => MountChoice::All,
        (None, MountChoice::None) => MountChoice::These(vec![value.to_owned()]),
    }
}

fn place(words: Words, way: Way) -> Result<Place, String> {
    let only = |key: &str, kind: &str| format!("`{key}` is for type={kind}");
    match words.kind.as_str() {
        "inline" => Ok(Place::Inline),
        "local" if words.reference.is_some() || words.insecure => Err(only("ref", "registry")),
        "local" => {
            let key = if way == Way::From { "src" } else { "dest" };
            let dir = words.dir.filter(|dir| dir.as_os_str() != Path::new("")).ok_or_else(|| format!("type=local needs {key}=DIRECTORY"))?;
            Ok(Place::Local { dir, tag: words.tag.unwrap_or_else(|| TAG.to_owned()), digest: words.digest, reset: words.reset })
        }
        _ => {
            if words.dir.is_some() || words.tag.is_some() || words.digest.is_some() || words.reset {
                return Err("src, dest, tag, digest and reset are for type=local".to_owned());
            }
            let reference = words.reference.filter(|text| !text.is_empty()).ok_or("type=registry needs ref=REGISTRY/NAME:TAG")?;
            let reference = full(&reference).map_err(|failure| failure.to_string())?;
            Ok(Place::Registry { reference, insecure: words.insecure })
        }
    }
}

#[cfg(test)]
mod tests {
    use strake_store::Compression;

    use super::*;

    #[test]
    fn caches_are_read() {
        let to_all =
            to("type=registry,ref=localhost:5000/c:1,mode=max,compression-level=9,compression=zstd,force-compression=true,mounts=true,ignore-error=true")
                .expect("read");
        assert_eq!(to_all.place, Place::Registry { reference: "localhost:5000/c:1".to_owned(), insecure: false });
        assert!(to_all.every_step && to_all.ignore_error && to_all.mounts == MountChoice::All);
        assert_eq!(Some(to_all.compression), Packing::at_level(Compression::Zstd, 9).ok());
        let short = from("registry.example.org/c").expect("read");
        assert_eq!(short.place, Place::Registry { reference: "registry.example.org/c:latest".to_owned(), insecure: false });
        let local = from("type=local,src=a/b,tag=x,mounts=go,mounts=npm").expect("read");
        assert_eq!(local.place, Place::Local { dir: "a/b".into(), tag: "x".to_owned(), digest: None, reset: false });
        assert_eq!(local.mounts, MountChoice::These(vec!["go".to_owned(), "npm".to_owned()]));
        assert_eq!(to("type=inline").expect("read").place, Place::Inline);
        assert!(!to("type=local,dest=x").expect("read").every_step, "mode=min is the default");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, said) in [
            ("type=gha,scope=x", "type=gha is not supported"),
            ("type=s3,bucket=b", "type=s3 is not supported"),
            ("type=azblob,name=b", "type=azblob is not supported"),
            ("type=odd", "not known"),
            ("ref=x", "expected type="),
            ("type=local", "needs dest"),
            ("type=local,dest=x,ref=y", "`ref` is for type=registry"),
            ("type=registry", "needs ref"),
            ("type=registry,ref=A b", "A b"),
            ("type=registry,ref=a,mode=most", "expected min or max"),
            ("type=registry,ref=a,image-manifest=false", "always an OCI image manifest"),
            ("type=registry,ref=a,compression-level=10", "from 0 to 9 for gzip"),
            ("type=registry,ref=a,force-compression=false", "all layers get"),
            ("type=registry,ref=a,colour=red", "`colour` is not supported"),
            ("type=registry,ref=a,dest=b", "for type=local"),
            ("type=inline,mode=max", "own layers only"),
            ("type=local,dest=x,compression=lzma", "expected gzip"),
            ("type=registry,\"ref=a", "not closed"),
        ] {
            let error = to(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(from("type=inline").expect_err("refused").to_string().contains("type=registry,ref=IMAGE"));
        assert!(from("type=local,src=x,mode=max").expect_err("refused").to_string().contains("`mode` is not supported"));
    }
}
