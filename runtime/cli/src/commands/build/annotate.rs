//! `--annotation`, and `annotation.*` of outputs.

use strake_build::attest::{Annotation, AnnotationTarget, Annotations};
use strake_oci::Platform;

use crate::failure::Failure;

/// Annotations of `--annotation`: `[TARGET[PLATFORM],…:]NAME=VALUE`.
pub fn parse(words: &[String]) -> Result<Annotations, Failure> {
    let mut annotations = Annotations::default();
    for word in words {
        let wrong = |what: String| Failure::text(format!("--annotation {word}: {what}")).with_code(2);
        let (left, value) = word.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| wrong("expected NAME=VALUE".to_owned()))?;
        let (targets, name) = match left.split_once(':') {
            None => (vec![(AnnotationTarget::Manifest, None)], left),
            Some((targets, name)) => (targets.split(',').map(target).collect::<Result<Vec<_>, _>>().map_err(wrong)?, name),
        };
        if name.is_empty() {
            return Err(wrong("the name is missing".to_owned()));
        }
        let each = |(target, platform)| Annotation { target, platform, name: name.to_owned(), value: value.to_owned() };
        annotations.0.extend(targets.into_iter().map(each));
    }
    Ok(annotations)
}

/// The attribute of an output: `annotation.NAME`, `annotation-index.NAME`, `annotation-manifest[linux/amd64].NAME`. `None` for another attribute.
pub fn attribute(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    let (word, name) = match rest.strip_prefix('-') {
        None => rest
            .find(if rest.starts_with('[') { "]." } else { "." })
            .map(|dot| dot + usize::from(rest.starts_with('[')))
            .map(|dot| (format!("manifest{}", &rest[..dot]), &rest[dot + 1..]))?,
        Some(rest) => {
            let dot = rest.find("].").map(|dot| dot + 1).filter(|_| rest.contains('[')).or_else(|| rest.find('.'))?;
            (rest[..dot].to_owned(), &rest[dot + 1..])
        }
    };
    if name.is_empty() {
        return Some(Err(format!("`{key}`: the name is missing")));
    }
    Some(target(&word).map(|(target, platform)| Annotation { target, platform, name: name.to_owned(), value: value.to_owned() }))
}

fn target(word: &str) -> Result<(AnnotationTarget, Option<Platform>), String> {
    let (kind, platform) = match word.split_once('[') {
        None => (word, None),
        Some((kind, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| format!("`{word}`: a bracket is not closed"))?;
            (kind, Some(platform.parse::<Platform>().map_err(|error| error.to_string())?))
        }
    };
    let target = match kind {
        "" | "manifest" => AnnotationTarget::Manifest,
        "index" => AnnotationTarget::Index,
        "manifest-descriptor" => AnnotationTarget::ManifestDescriptor,
        "index-descriptor" => AnnotationTarget::IndexDescriptor,
        _ => return Err(format!("`{kind}` is not known: manifest, index, manifest-descriptor and index-descriptor are")),
    };
    match (target, &platform) {
        (AnnotationTarget::Index | AnnotationTarget::IndexDescriptor, Some(_)) => Err(format!("`{word}`: an index is for no platform")),
        _ => Ok((target, platform)),
    }
}

#[cfg(test)]
mod tests {
    use super::{attribute, parse};
    use strake_build::attest::AnnotationTarget::{Index, IndexDescriptor, Manifest, ManifestDescriptor};

    #[test]
    fn annotations_are_read_or_refused() {
        let of = |word: &str| {
            parse(&[word.to_owned()])
                .map(|annotations| annotations.0.into_iter().map(|own| (own.target, own.platform, own.name, own.value)).collect::<Vec<_>>())
        };
        assert_eq!(of("a.b=c=d:e").expect("read"), [(Manifest, None, "a.b".to_owned(), "c=d:e".to_owned())]);
        let arm = "linux/arm64".parse().ok();
        assert_eq!(of("manifest-descriptor[linux/arm64]:a=b").expect("read"), [(ManifestDescriptor, arm.clone(), "a".to_owned(), "b".to_owned())]);
        assert_eq!(of("index,manifest:a=b").expect("read").iter().map(|row| row.0).collect::<Vec<_>>(), [Index, Manifest]);
        for word in ["a", "=b", "odd:a=b", "index:=b", "index[linux/arm64]:a=b", "manifest[x:a=b", "manifest[x/]:a=b"] {
            assert!(of(word).is_err(), "{word}");
        }
        let row = |key: &str| attribute(key, "v").map(|row| row.map(|own| (own.target, own.platform, own.name)));
        assert_eq!(row("annotation.org.x"), Some(Ok((Manifest, None, "org.x".to_owned()))));
        assert_eq!(row("annotation-index-descriptor.x"), Some(Ok((IndexDescriptor, None, "x".to_owned()))));
        assert_eq!(row("annotation-manifest[linux/arm64].org.x"), Some(Ok((Manifest, arm.clone(), "org.x".to_owned()))));
        assert_eq!(row("annotation[linux/arm64].x"), Some(Ok((Manifest, arm, "x".to_owned()))));
        assert!(matches!(row("annotation-odd.x"), Some(Err(_))));
        assert_eq!(row("dest"), None);
    }
}
