//! Files that the real `sops` (3.11) has encrypted for a key of the tests: opened in memory, and nowhere to be seen afterwards.

use std::path::Path;

use serde_json::Value;
use strake_tests::{Ran, World, needs};

/// What is encrypted in the files, none of which may be seen anywhere.
const SECRETS: [&str; 7] =
    ["correct-horse-battery", "staple-of-secrets", "value-from-the-vault", "dotenv-hush-hush", "binary-hush-hush", "patched-hush-hush", "json-hush-hush"];
const FILES: [(&str, &str); 8] = [
    ("secret.yaml", include_str!("sealed/secret.yaml")),
    ("settings.yaml", include_str!("sealed/settings.yaml")),
    ("values.yaml", include_str!("sealed/values.yaml")),
    ("app.env", include_str!("sealed/app.env")),
    ("tls.key", include_str!("sealed/tls.key")),
    ("patch.yaml", include_str!("sealed/patch.yaml")),
    ("data.json", include_str!("sealed/data.json")),
    ("broken.yaml", include_str!("sealed/broken.yaml")),
];

/// Puts an encrypted file to `place`.
fn put(world: &World, name: &str, place: &str) {
    let (_, text) = FILES.iter().find(|(known, _)| *known == name).expect("a file of the tests");
    world.write(place, text);
}

/// An overlay with every kind of encrypted input; the values lie beside it.
fn project(world: &World) {
    for name in ["secret.yaml", "settings.yaml", "app.env", "tls.key", "patch.yaml", "data.json"] {
        put(world, name, &format!("app/{name}"));
    }
    put(world, "values.yaml", "values.yaml");
    let uses = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: uses}\ndata:\n  whole: ${{ token }}\n  part: \"Bearer ${{ token }}!\"\n  port: \":${{ port }}\"\n  open: to-be-seen\n";
    world.write("app/uses.yaml", uses);
    let generators = "secretGenerator:\n- {name: made, envs: [app.env], files: [tls.key]}\nconfigMapGenerator:\n- {name: leaky, envs: [app.env]}\n";
    let kustomization = format!("resources: [secret.yaml, settings.yaml, data.json, uses.yaml]\npatches: [{{path: patch.yaml}}]\n{generators}");
    world.write("app/kustomization.yaml", kustomization);
}

/// strake with the key of a file.
fn strake(world: &World, key: &str, args: &[&str]) -> Ran {
    let mut command = world.strake_command(args);
    command.env("SOPS_AGE_KEY_FILE", Path::new(env!("CARGO_MANIFEST_DIR")).join("journeys/sealed").join(key));
    let output = command.output().expect("strake runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
}

/// The words, and what they look like in base64 wherever they begin.
fn forms(word: &str) -> Vec<String> {
    let encode = |bytes: &[u8]| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bits = |chunk: &[u8]| (u32::from(chunk[0]) << 16) | (u32::from(chunk[1]) << 8) | u32::from(chunk[2]);
        let four = |number: u32| [18, 12, 6, 0].map(|shift| alphabet[(number >> shift) as usize & 63] as char);
        bytes.chunks_exact(3).flat_map(|chunk| four(bits(chunk))).collect::<String>()
    };
    // Whole groups of three bytes are the same in every text that has the word at that distance.
    let inside = (0..3).map(|skip| encode(&word.as_bytes()[skip..]));
    std::iter::once(word.to_owned()).chain(inside).collect()
}

#[track_caller]
fn clean(what: &str, text: &str) {
    for word in SECRETS.iter().flat_map(|word| forms(word)) {
        assert!(!text.contains(&word), "{word} is in {what}:\n{text}");
    }
}

/// Every file below a directory that has one of the words in it.
fn files_with_secrets(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            files_with_secrets(&path, found);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let holds = |word: &String| bytes.windows(word.len()).any(|window| window == word.as_bytes());
            if SECRETS.iter().flat_map(|word| forms(word)).any(|word| holds(&word)) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn complaint_18_encrypted_files_are_applied_and_their_values_are_seen_nowhere_else() {
    needs!();
    let world = World::new();
    world.serve();
    project(&world);
    // An image too, so that there are layers to look into: the context has the encrypted files in it.
    world.program("app/guestbook");
    world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY . /\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: web, image: web}]\n";
    world.write("app/pod.yaml", pod);
    let kustomization = std::fs::read_to_string(world.path("app/kustomization.yaml")).expect("written");
    world.write("app/kustomization.yaml", kustomization.replace("uses.yaml]", "uses.yaml, pod.yaml]"));
    let input = ["app", "--values", "values.yaml", "--set", "app"];
    let run = |command: &[&str], more: &[&str], code: i32| {
        let ran = strake(&world, "key.txt", &[command, &input, more].concat());
        assert_eq!(ran.code, code, "{command:?} {more:?}: {}", ran.all());
        clean(&format!("{command:?} {more:?}"), &ran.all());
        ran
    };
    for format in ["text", "json", "sarif", "github", "junit"] {
        run(&["check"], &["-o", format], 0);
    }
    run(&["plan"], &["--out", "plan.json"], 2);
    clean("the plan that was kept", &std::fs::read_to_string(world.path("plan.json")).expect("kept"));
    for format in ["text", "json", "yaml", "markdown"] {
        run(&["plan"], &["--empty", "-o", format], 2);
        run(&["plan"], &["-o", format], 2);
    }
    run(&["-vv", "apply"], &["--timeout", "300"], 0);
    let plan = run(&["plan"], &["-o", "json"], 0);
    assert!(plan.stdout.contains("to-be-seen"), "what is no secret is shown: {}", plan.stdout);

    // They have arrived.
    let object = |kind: &str, name: &str| -> Value {
        let text = world.strake(&["get", kind, name, "-o", "json"]).ok().stdout;
        serde_json::from_str(&text).expect("JSON")
    };
    assert_eq!(object("configmap", "settings")["data"]["url"], "postgres://ada:staple-of-secrets@db");
    let uses = object("configmap", "uses");
    assert_eq!(
        (&uses["data"]["whole"], &uses["data"]["part"], &uses["data"]["port"]),
        (&"value-from-the-vault".into(), &"Bearer value-from-the-vault!".into(), &":8443".into())
    );
    let db = object("secret", "db")["data"].clone();
    // correct-horse-battery and patched-hush-hush
    assert_eq!((&db["password"], &db["extra"]), (&"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5".into(), &"cGF0Y2hlZC1odXNoLWh1c2g=".into()));
    let names = world.strake(&["get", "secrets", "-o", "name"]).ok().stdout;
    let made = names.lines().filter_map(|line| line.strip_prefix("secret/")).find(|name| name.starts_with("made-")).expect("generated");
    let made = object("secret", made)["data"].clone();
    assert_eq!((&made["TOKEN"], &made["LEVEL"]), (&"ZG90ZW52LWh1c2gtaHVzaA==".into(), &"aW5mbw==".into()));
    assert!(made["tls.key"].as_str().is_some_and(|text| text.starts_with("LS0tLS1CRUdJTiBUSElORy")), "{made}");

    // What others remember of it: history, inventory, logs, layers, caches.
    for args in [
        &["history", "--set", "app"][..],
        &["history", "--set", "app", "-o", "json"],
        &["status", "--set", "app"],
        &["drift", "--set", "app"],
        &["diff", "app", "--values", "values.yaml", "--set", "app", "-o", "json"],
    ] {
        let ran = strake(&world, "key.txt", args).ok();
        clean(&format!("{args:?}"), &ran.all());
    }
    let kept = world.strake(&["get", "secret", "strake-set-app", "-o", "json"]).ok();
    clean("the inventory", &kept.stdout);
    clean("the log", &world.server_log());
    world.strake(&["stop"]).ok();
    let mut found = Vec::new();
    files_with_secrets(&world.root(), &mut found);
    // The objects themselves are in the cluster's state.
    found.retain(|path| !path.starts_with(&world.root().join("cluster").display().to_string()));
    assert!(found.is_empty(), "{found:#?}");
    world.nothing_left();
}

#[test]
fn what_cannot_be_opened_is_told_with_its_place() {
    needs!();
    let world = World::new();
    project(&world);
    let check = |key: &str, args: &[&str]| {
        let ran = strake(&world, key, &[&["check"], args].concat());
        clean(&format!("{args:?}"), &ran.all());
        ran
    };
    let input = ["app", "--values", "values.yaml"];
    let none = world.strake(&["check", "app", "--values", "values.yaml"]).fails(1, "error[sops]: this file is encrypted for age1992h549");
    assert!(
        none.stderr.contains("and there is no key") && none.stderr.contains("SOPS_AGE_KEY_FILE") && none.stderr.contains("--> app/secret.yaml:9:1"),
        "{}",
        none.stderr
    );
    assert_eq!(none.stderr.matches("error").count(), none.stderr.matches("error[sops]").count(), "nothing else is wrong: {}", none.stderr);
    check("other.txt", &input).fails(1, "none of the keys of ");
    // One that somebody has edited: no key, no line, no word of it is told, but the place.
    let text = std::fs::read_to_string(world.path("app/settings.yaml")).expect("written");
    world.write("app/settings.yaml", text.replace("colour: red", "colour: blue"));
    let tampered = check("key.txt", &input).fails(1, "the values are not those that were encrypted");
    assert!(tampered.stderr.contains("--> app/settings.yaml:") && tampered.stderr.contains("sops edit"), "{}", tampered.stderr);
    // A mistake in what is encrypted: the line is shown as it is in the file.
    put(&world, "broken.yaml", "broken/broken.yaml");
    for format in ["text", "json", "sarif", "github", "junit"] {
        let ran = strake(&world, "key.txt", &["check", "broken", "-o", format]);
        assert_eq!(ran.code, 1, "{}", ran.all());
        assert!(!ran.all().contains("not-a-number-hush"), "{}", ran.all());
    }
    let ran = strake(&world, "key.txt", &["check", "broken"]).fails(1, "broken/broken.yaml:6:15");
    assert!(ran.stderr.contains(": ENC[AES256_GCM,data:"), "{}", ran.stderr);
    // Keys that are none, and services that nobody asks.
    world.write("nokey", "AGE-SECRET-KEY-1NOTAKEY\n");
    let mut command = world.strake_command(&["check", "broken"]);
    let output = command.env("SOPS_AGE_KEY_FILE", world.path("nokey")).output().expect("strake runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 1 is no key") && !said.contains("NOTAKEY"), "{said}");
    put(&world, "secret.yaml", "pgp/secret.yaml");
    let text = std::fs::read_to_string(world.path("pgp/secret.yaml")).expect("written");
    world.write("pgp/secret.yaml", text.replace("    age:\n", "    pgp:\n"));
    strake(&world, "key.txt", &["check", "pgp"]).fails(1, "encrypted for pgp only");
}

#[test]
fn the_key_comes_from_where_sops_looks_for_it() {
    needs!();
    let world = World::new();
    put(&world, "secret.yaml", "app/secret.yaml");
    let key = include_str!("sealed/key.txt");
    let check = |name: &str, value: &str| world.strake_command(&["check", "app"]).env(name, value).output().expect("strake runs").status.success();
    assert!(!check("UNUSED", ""));
    assert!(check("SOPS_AGE_KEY", key));
    let file = world.write("key", key).display().to_string();
    assert!(check("SOPS_AGE_KEY_FILE", &file));
    assert!(check("SOPS_AGE_KEY_CMD", &format!("cat {file}")));
    let config = world.write("config/sops/age/keys.txt", key);
    let config = config.ancestors().nth(3).expect("a folder").display().to_string();
    assert!(check("XDG_CONFIG_HOME", &config));
    world.write(".config/sops/age/keys.txt", key);
    assert!(check("UNUSED", ""), "the home directory's");
}
