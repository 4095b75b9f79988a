//! The attributes of `--output`.

use std::io::IsTerminal;

use super::annotate;
use super::output::{Kind, Output, fields, flag};
use crate::commands::transfer::{at_level, compression};
use crate::failure::Failure;

/// Reads the text of one `--output`.
pub fn parse(text: &str) -> Result<Output, Failure> {
    let wrong = |what: String| Failure::text(format!("-o {text}: {what}")).with_code(2);
    if !text.contains('=') {
        let kind = if text == "-" { Kind::Tar } else { Kind::Local };
        return Ok(Output { dest: text.into(), ..Output::of(kind) });
    }
    let fields = fields(text).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
    let mut output = Output::of(Kind::Oci);
    let (mut kind, mut level) = (None, None);
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key {
            "type" => (kind, output.push) = (Some(kind_of(value).map_err(wrong)?), output.push || value == "registry"),
            "compression-level" => level = Some(value),
            _ => attribute(&mut output, field, key, value).map_err(wrong)?,
        }
    }
    output.compression = at_level(output.compression, level).map_err(wrong)?;
    output.kind = kind.ok_or_else(|| wrong("expected type=local, tar, oci, docker, image or registry".to_owned()))?;
    check(&output).map_err(wrong)?;
    if output.dest.as_os_str().is_empty() && matches!(output.kind, Kind::Tar | Kind::Oci) {
        output.dest = "-".into();
    }
    Ok(output)
}

fn kind_of(word: &str) -> Result<Kind, String> {
    Ok(match word {
        "oci" => Kind::Oci,
        "docker" => Kind::Docker,
        "tar" => Kind::Tar,
        "local" => Kind::Local,
        "image" | "registry" => Kind::Image,
        _ => return Err(format!("type {word} is not known: local, tar, oci, docker, image and registry are")),
    })
}

fn attribute(output: &mut Output, field: &str, key: &str, value: &str) -> Result<(), String> {
    let switch = || flag(value).ok_or_else(|| format!("`{field}`: expected true or false"));
    if let Some(annotation) = annotate::attribute(key, value) {
        output.annotations.0.push(annotation?);
        return Ok(());
    }
    match (key, value) {
        ("dest", value) => output.dest = value.into(),
        ("tar", _) => output.tar = switch()?,
        ("push", _) => output.push = switch()?,
        ("push-by-digest", _) => {
            output.by_digest = switch()?;
            output.push |= output.by_digest;
        }
        ("name-canonical", _) => output.canonical = switch()?,
        ("dangling-name-prefix", prefix) => output.dangling = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
        ("registry.insecure", _) => output.insecure = switch()?,
        ("platform-split", _) => output.split = Some(switch()?),
        ("attestation-prefix", prefix) if !prefix.contains('/') => prefix.clone_into(&mut output.statement_prefix),
        ("name", value) => output.names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
        ("compression", word) if compression(word).is_some() => output.compression = compression(word),
        ("mode", "copy") => {}
        // What strake does anyway.
        ("oci-mediatypes" | "rewrite-timestamp" | "force-compression" | "unpack" | "store", _) if switch()? => {}
        ("oci-artifact" | "unpack", _) if !switch()? => {}
        _ => return Err(format!("`{field}` is not supported: {}", why_not(key, value))),
    }
    Ok(())
}

/// Why an attribute that buildx knows is refused.
fn why_not(key: &str, value: &str) -> &'static str {
    match (key, value) {
        ("compression", _) => "layers are compressed with gzip, zstd or not at all (uncompressed)",
        ("force-compression", _) => "all layers get the compression that is asked for",
        ("oci-mediatypes", _) => "images are written with OCI's media types",
        ("oci-artifact", _) => "attestations are stored as BuildKit stores them by default",
        ("rewrite-timestamp", _) => "times in layers are always fixed",
        ("store", _) => "the store is where images are built",
        ("compatibility-version", _) => "there is one version",
        ("context", _) => "there is no Docker daemon: send type=docker,dest=- to `docker load`",
        ("mode", _) => "nothing that is in the directory is deleted",
        ("attestation-prefix", _) => "expected the beginning of a file's name",
        _ => {
            "expected type, dest, tar, name, push, push-by-digest, compression, compression-level, annotation.NAME, platform-split, registry.insecure, name-canonical or dangling-name-prefix"
        }
    }
}

fn check(output: &Output) -> Result<(), String> {
    let has_dest = !output.dest.as_os_str().is_empty();
    let stdout = output.dest.as_os_str() == "-";
    let of_files = matches!(output.kind, Kind::Local | Kind::Tar);
    let problem = match output.kind {
        Kind::Image if has_dest => "an image goes to the store or a registry and has no dest",
        Kind::Local if !has_dest || stdout => "type=local needs dest=DIRECTORY",
        Kind::Tar | Kind::Oci if !has_dest && std::io::stdout().is_terminal() => "dest=FILE is needed (dest=- is stdout)",
        Kind::Docker if !output.tar => "type=docker is one tar: tar=false is for type=oci",
        Kind::Oci if !output.tar && (!has_dest || stdout) => "tar=false needs dest=DIRECTORY",
        Kind::Oci | Kind::Docker | Kind::Tar | Kind::Local if output.push => "only type=image and type=registry are pushed",
        _ if output.split.is_some() && !of_files => "platform-split is for type=local and type=tar",
        _ if of_files && !output.annotations.0.is_empty() => "files have no annotations",
        _ => return Ok(()),
    };
    Err(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use strake_store::{Compression, Packing};

    use super::{Kind, parse};

    #[test]
    fn outputs_are_read_or_refused() {
        let output = parse("type=oci,dest=x,tar=false").expect("read");
        assert!(!output.tar && output.kind == Kind::Oci);
        assert_eq!(parse("out/dir").expect("read").kind, Kind::Local);
        assert_eq!(parse("-").expect("read").kind, Kind::Tar);
        let pushed = parse("type=registry,\"name=a/b:1,c:2\",compression=zstd").expect("read");
        assert!(pushed.push && pushed.names == ["a/b:1", "c:2"]);
        assert!(!parse("type=image,push=false").expect("read").push);
        let leveled = parse("type=image,compression-level=19,compression=zstd,force-compression=true").expect("read").compression;
        assert_eq!(leveled, Packing::at_level(Compression::Zstd, 19).ok());
        assert_eq!(parse("type=oci,compression-level=6").expect("read").compression, Some(Compression::Gzip.into()));
        let by_digest = parse("type=image,name=a/b,push-by-digest=true,name-canonical=true,dangling-name-prefix=x").expect("read");
        assert!(by_digest.push && by_digest.by_digest && by_digest.canonical && by_digest.dangling.as_deref() == Some("x"));
        assert_eq!(parse("type=local,dest=x,platform-split=false").expect("read").split, Some(false));
        assert_eq!(parse("type=image,annotation.a=b,annotation-index.c=d").expect("read").annotations.0.len(), 2);
        for (text, said) in [
            ("type=odd", "not known"),
            ("dest=x", "expected type"),
            ("type=local", "needs dest"),
            ("type=docker,dest=x,tar=false", "one tar"),
            ("type=image,dest=x", "no dest"),
            ("type=oci,dest=x,push=true", "are pushed"),
            ("type=local,dest=x,mode=delete", "`mode=delete` is not supported"),
            ("type=local,dest=x,annotation.a=b", "no annotations"),
            ("type=oci,dest=x,platform-split=true", "platform-split is for"),
            ("type=image,annotation-odd.a=b", "not known"),
            ("type=image,compression=estargz", "gzip, zstd or not at all"),
            ("type=image,compression-level=10", "from 0 to 9 for gzip"),
            ("type=image,compression=zstd,compression-level=0", "from 1 to 22 for zstd"),
            ("type=image,compression-level=fast", "expected a number"),
            ("type=image,compression-level=1,compression=uncompressed", "have no level"),
            ("type=image,oci-mediatypes=false", "OCI's media types"),
            ("type=image,rewrite-timestamp=false", "always fixed"),
            ("type=image,store=false", "where images are built"),
            ("type=image,unpack=odd", "true or false"),
            ("type=image,\"name=a", "not closed"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
