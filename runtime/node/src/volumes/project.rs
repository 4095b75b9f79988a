//! What files a configMap, secret, projected or downwardAPI volume has: pure.

use std::collections::BTreeMap;

use strake_kinds::core::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, SecretProjection,
    SecretVolumeSource,
};

use crate::env::{self, Data, Facts};

const USUAL_MODE: u32 = 0o644;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// The files of a volume by their path below it.
pub(crate) type Files = BTreeMap<String, File>;

/// Which object a volume takes its files from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
        }
    }
}

/// What one object gives to a volume.
struct Taken<'a> {
    kind: Kind,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
    mode: u32,
}

/// The files of a configMap volume.
///
/// # Errors
/// What is missing, in the words of the event.
pub(crate) fn config_map(source: &ConfigMapVolumeSource, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    let mode = mode(source.default_mode, USUAL_MODE);
    let taken = Taken { kind: Kind::ConfigMap, name: &source.name, items: source.items.as_deref(), optional: source.optional == Some(true), mode };
    take(&taken, &facts.config_maps, &mut files)?;
    Ok(files)
}

/// The files of a secret volume.
///
/// # Errors
/// What is missing.
pub(crate) fn secret(source: &SecretVolumeSource, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    let name = source.secret_name.as_deref().unwrap_or_default();
    let mode = mode(source.default_mode, USUAL_MODE);
    let taken = Taken { kind: Kind::Secret, name, items: source.items.as_deref(), optional: source.optional == Some(true), mode };
    take(&taken, &facts.secrets, &mut files)?;
    Ok(files)
}

/// The files of a downwardAPI volume.
///
/// # Errors
/// A field that doesn't exist.
pub(crate) fn downward(pod: &Pod, source: &DownwardAPIVolumeSource, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    describe(pod, source.items.as_deref().unwrap_or_default(), mode(source.default_mode, USUAL_MODE), facts, &mut files)?;
    Ok(files)
}

/// The files of a projected volume; of two sources with the same path the later one wins.
///
/// # Errors
/// What is missing or not supported.
pub(crate) fn projected(pod: &Pod, source: &ProjectedVolumeSource, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    let mode = mode(source.default_mode, USUAL_MODE);
    for part in source.sources.iter().flatten() {
        if let Some(ConfigMapProjection { name, items, optional }) = &part.config_map {
            let taken = Taken { kind: Kind::ConfigMap, name, items: items.as_deref(), optional: *optional == Some(true), mode };
            take(&taken, &facts.config_maps, &mut files)?;
        } else if let Some(SecretProjection { name, items, optional }) = &part.secret {
            let taken = Taken { kind: Kind::Secret, name, items: items.as_deref(), optional: *optional == Some(true), mode };
            take(&taken, &facts.secrets, &mut files)?;
        } else if let Some(own) = &part.downward_api {
            describe(pod, own.items.as_deref().unwrap_or_default(), mode, facts, &mut files)?;
        } else if part.service_account_token.is_some() {
            return Err("projected volume source serviceAccountToken is not supported yet".to_owned());
        } else {
            return Err("projected volume source is of a type that is not supported: configMap, secret and downwardAPI are".to_owned());
        }
    }
    Ok(files)
}

/// The objects that a pod's volumes take files from.
pub(crate) fn references(pod: &Pod) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        found.extend(volume.config_map.iter().map(|source| (Kind::ConfigMap, source.name.clone())));
        found.extend(volume.secret.iter().filter_map(|source| Some((Kind::Secret, source.secret_name.clone()?))));
        for part in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            found.extend(part.config_map.iter().map(|source| (Kind::ConfigMap, source.name.clone())));
            found.extend(part.secret.iter().map(|source| (Kind::Secret, source.name.clone())));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn mode(given: Option<i32>, usual: u32) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).map_or(usual, |mode| mode & 0o777)
}

fn take(taken: &Taken<'_>, objects: &Data, files: &mut Files) -> Result<(), String> {
    let Some(data) = objects.get(taken.name).and_then(Option::as_ref) else {
        return if taken.optional { Ok(()) } else { Err(format!("{} \"{}\" not found", taken.kind.word(), taken.name)) };
    };
    let Some(items) = taken.items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            files.insert(checked(key)?, File { bytes: bytes.clone(), mode: taken.mode });
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                files.insert(checked(&item.path)?, File { bytes: bytes.clone(), mode: mode(item.mode, taken.mode) });
            }
            None if taken.optional => {}
            None => return Err(format!("references non-existent {} key: {}", taken.kind.word(), item.key)),
        }
    }
    Ok(())
}

fn describe(pod: &Pod, items: &[DownwardAPIVolumeFile], usual: u32, facts: &Facts, files: &mut Files) -> Result<(), String> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            env::field_value(pod, field, facts)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let all = pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
            let container = all.into_iter().find(|container| container.name == name).ok_or_else(|| format!("container {name} not found"))?;
            env::resource_value(pod, container, resource, facts)?
        } else {
            continue;
        };
        files.insert(checked(&item.path)?, File { bytes: text.into_bytes(), mode: mode(item.mode, usual) });
    }
    Ok(())
}

/// A path that stays inside the volume and out of the writer's own names.
fn checked(path: &str) -> Result<String, String> {
    let fine = !path.is_empty() && !path.starts_with('/') && !path.starts_with("..") && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if fine { Ok(path.to_owned()) } else { Err(format!("\"{path}\" is not a path inside a volume")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        let data = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect());
        let config_maps = [("conf".to_owned(), data(&[("a", "1"), ("b", "2")])), ("gone".to_owned(), None)].into();
        Facts { config_maps, secrets: [("sec".to_owned(), data(&[("pw", "x")]))].into(), ..Facts::default() }
    }

    fn shown(files: &Files) -> Vec<String> {
        files.iter().map(|(path, file)| format!("{path} {:o} {}", file.mode, String::from_utf8_lossy(&file.bytes))).collect()
    }

    fn pod(volume: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "labels": {"app": "web", "b": "c"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [], "volumes": [volume]}})).unwrap()
    }

    #[test]
    fn all_keys_or_those_named() {
        let files = |source: serde_json::Value| config_map(&serde_json::from_value(source).unwrap(), &facts());
        assert_eq!(shown(&files(json!({"name": "conf"})).unwrap()), ["a 644 1", "b 644 2"]);
        let items = json!([{"key": "a", "path": "deep/er/a.conf", "mode": 0o400}]);
        assert_eq!(shown(&files(json!({"name": "conf", "items": items, "defaultMode": 0o600})).unwrap()), ["deep/er/a.conf 400 1"]);
        assert_eq!(files(json!({"name": "conf", "items": [{"key": "z", "path": "z"}]})).unwrap_err(), "references non-existent configmap key: z");
        assert_eq!(shown(&files(json!({"name": "conf", "optional": true, "items": [{"key": "z", "path": "z"}]})).unwrap()), Vec::<String>::new());
        assert_eq!(files(json!({"name": "gone"})).unwrap_err(), "configmap \"gone\" not found");
        assert!(files(json!({"name": "gone", "optional": true})).unwrap().is_empty());
    }

    #[test]
    fn a_path_cannot_leave_the_volume() {
        for path in ["../x", "/x", "a/../../x", "..data/x", "a//b", "", ".", "a/."] {
            let source = serde_json::from_value(json!({"name": "conf", "items": [{"key": "a", "path": path}]})).unwrap();
            assert!(config_map(&source, &facts()).is_err(), "{path}");
        }
    }

    #[test]
    fn several_sources_in_one_volume() {
        let sources = json!([
            {"configMap": {"name": "conf"}},
            {"secret": {"name": "sec", "items": [{"key": "pw", "path": "a"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
        ]);
        let pod = pod(json!({"name": "v", "projected": {"sources": sources}}));
        let source = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].projected.clone().unwrap();
        let files = projected(&pod, &source, &facts()).unwrap();
        assert_eq!(shown(&files), ["a 644 x", "b 644 2", "labels 644 app=\"web\"\nb=\"c\""]);
        assert_eq!(references(&pod), [(Kind::ConfigMap, "conf".to_owned()), (Kind::Secret, "sec".to_owned())]);
        let token = serde_json::from_value(json!({"sources": [{"serviceAccountToken": {"path": "t"}}]})).unwrap();
        assert!(projected(&pod, &token, &facts()).unwrap_err().contains("serviceAccountToken"));
    }
}
