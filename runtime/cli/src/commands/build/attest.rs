//! `--provenance`, `--sbom`, `--attest`: which statements about the image are made.

use super::output::{fields, flag};
use crate::args::Build;
use crate::failure::Failure;

/// What the provenance is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenanceWish {
    /// mode=max.
    pub max: bool,
    /// builder-id.
    pub builder_id: String,
    /// reproducible.
    pub reproducible: bool,
    /// times: when the build began and ended.
    pub times: bool,
    /// inline-only: into images, not beside files.
    pub inline_only: bool,
    /// filename, for outputs of files.
    pub file_name: Option<String>,
}

/// Which statements are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    pub provenance: Option<ProvenanceWish>,
    pub sbom: bool,
}

impl Attest {
    /// Reads the flags. Nothing is attested unless somebody asks.
    pub fn parse(args: &Build) -> Result<Self, Failure> {
        let mut wishes: Vec<(String, String)> = Vec::new();
        wishes.extend(args.attests.iter().map(|text| (format!("--attest {text}"), text.clone())));
        wishes.extend(args.provenance.iter().map(|text| (format!("--provenance={text}"), short("provenance", text))));
        wishes.extend(args.sbom.iter().map(|text| (format!("--sbom={text}"), short("sbom", text))));
        let (mut attest, mut seen) = (Attest::default(), Vec::new());
        for (written, text) in wishes {
            let wrong = |what: String| Failure::text(format!("{written}: {what}")).with_code(2);
            let fields = fields(&text).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
            let kind = fields.iter().find_map(|field| field.strip_prefix("type=")).ok_or_else(|| wrong("expected type=provenance or type=sbom".to_owned()))?;
            if seen.contains(&kind.to_owned()) {
                return Err(wrong(format!("{kind} is asked for twice")));
            }
            seen.push(kind.to_owned());
            match kind {
                "provenance" => attest.provenance = provenance(&fields).map_err(wrong)?,
                "sbom" => attest.sbom = sbom(&fields).map_err(wrong)?,
                _ => return Err(wrong(format!("type {kind} is not known: provenance and sbom are"))),
            }
        }
        Ok(attest)
    }

    /// Whether anything is said at all.
    pub fn any(&self) -> bool {
        self.sbom || self.provenance.is_some()
    }
}

/// `--provenance=true` and its like in the long form.
fn short(kind: &str, text: &str) -> String {
    match flag(text) {
        Some(wanted) => format!("type={kind},disabled={}", !wanted),
        None => format!("type={kind},{text}"),
    }
}

fn bool_of(field: &str, value: &str) -> Result<bool, String> {
    flag(value).ok_or_else(|| format!("`{field}`: expected true or false"))
}

fn provenance(fields: &[String]) -> Result<Option<ProvenanceWish>, String> {
    let (mut wish, mut disabled) = (ProvenanceWish::default(), false);
    for field in fields {
        match field.split_once('=').unwrap_or((field, "")) {
            ("type", _) | ("version", "v1") | ("mode", "min") => {}
            ("mode", "max") => wish.max = true,
            ("builder-id", id) => id.clone_into(&mut wish.builder_id),
            ("reproducible", value) => wish.reproducible = bool_of(field, value)?,
            ("times", value) => wish.times = bool_of(field, value)?,
            ("inline-only", value) => wish.inline_only = bool_of(field, value)?,
            ("filename", name) if !name.is_empty() && !name.contains('/') && name != "." && name != ".." => wish.file_name = Some(name.to_owned()),
            ("disabled", value) => disabled = bool_of(field, value)?,
            ("version", _) => return Err(format!("`{field}` is not supported: SLSA provenance is written in version v1")),
            _ => {
                return Err(format!(
                    "`{field}` is not understood: expected mode=min|max, builder-id, reproducible, times, inline-only, filename or version=v1"
                ));
            }
        }
    }
    Ok((!disabled).then_some(wish))
}

fn sbom(fields: &[String]) -> Result<bool, String> {
    let mut wanted = true;
    for field in fields {
        match field.split_once('=').unwrap_or((field, "")) {
            ("type", _) => {}
            ("disabled", value) => wanted = !bool_of(field, value)?,
            ("generator", _) => return Err(format!("`{field}` is not supported: strake looks through the image itself")),
            _ => return Err(format!("`{field}` is not understood: expected true or false")),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::{provenance, sbom, short};
    use crate::commands::build::output::fields;

    #[test]
    fn wishes_are_read_or_refused() {
        let of = |text: &str| provenance(&fields(&short("provenance", text)).expect("fields"));
        assert!(of("true").expect("read").is_some_and(|wish| !wish.max && !wish.times));
        assert_eq!(of("false"), Ok(None));
        assert!(
            of("mode=max,builder-id=https://ci/1,times=true").expect("read").is_some_and(|wish| wish.max && wish.times && wish.builder_id == "https://ci/1")
        );
        for (text, said) in
            [("version=v0.2", "not supported"), ("mode=odd", "not understood"), ("filename=../x", "not understood"), ("times=x", "true or false")]
        {
            assert!(of(text).expect_err(text).contains(said), "{text}");
        }
        let of = |text: &str| sbom(&fields(&short("sbom", text)).expect("fields"));
        assert_eq!((of("true"), of("0")), (Ok(true), Ok(false)));
        assert!(of("generator=docker/scout").expect_err("refused").contains("not supported"));
    }
}
