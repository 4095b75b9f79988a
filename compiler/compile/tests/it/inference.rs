//! Which Dockerfile builds which image.

use std::collections::BTreeMap;

use strake_compile::{Dockerfile, Manifest, compile};

use crate::cases::empty;

/// Compiles Dockerfiles (path and first line) beside pods of these images; shows `path: images` and the codes of findings.
fn built(dockerfiles: &[(&str, &str)], images: &[&str]) -> (Vec<String>, Vec<&'static str>) {
    let mut inputs = empty();
    // What rules say of such pods is another matter.
    inputs.options.lints = strake_compile::lint::rules().into_iter().map(|rule| (rule.code.to_owned(), strake_compile::lint::Level::Off)).collect();
    for (path, first) in dockerfiles {
        let context = format!("/home/me/project/{}", path.rsplit_once('/').map_or("", |(folder, _)| folder));
        let context = context.trim_end_matches('/').to_owned();
        inputs.dockerfiles.push(Dockerfile {
            path: (*path).to_owned(),
            text: format!("{first}\nFROM scratch\nENV A=1\n"),
            context,
            ignore: Vec::new(),
            optional: false,
            image: None,
        });
    }
    for (index, image) in images.iter().enumerate() {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p{index}}}\nspec: {{containers: [{{name: c, image: \"{image}\"}}]}}\n");
        inputs.manifests.push(Manifest { path: format!("{index}.yaml"), text });
    }
    let outcome = compile(&inputs, &BTreeMap::new());
    let codes = outcome.diagnostics.iter().map(|finding| finding.code.0).collect();
    let plan = outcome.plan.unwrap_or_default();
    let shown = plan.build.images.iter().enumerate().map(|(index, image)| {
        let runs = plan.deploy.images.iter().filter(|edge| edge.image == index).count();
        format!("{} runs in {runs}: {}", image.origin.file, image.tags.join(" "))
    });
    (shown.collect(), codes)
}

#[test]
fn table() {
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        ("the directory's name", &[("web/Dockerfile", "")], &["web", "nginx:1"], &["web/Dockerfile runs in 1: docker.io/library/web:latest"], &[]),
        (
            "all tags of a name",
            &[("web/Dockerfile", "")],
            &["web:1", "web:2"],
            &["web/Dockerfile runs in 2: docker.io/library/web:1 docker.io/library/web:2"],
            &[],
        ),
        ("any registry", &[("web/Dockerfile", "")], &["ghcr.io/me/web:1"], &["web/Dockerfile runs in 1: ghcr.io/me/web:1"], &[]),
        ("a name before the ending", &[("web.Dockerfile", "")], &["web"], &["web.Dockerfile runs in 1: docker.io/library/web:latest"], &[]),
        ("a name after the beginning", &[("build/Dockerfile.api", "")], &["api:2"], &["build/Dockerfile.api runs in 1: docker.io/library/api:2"], &[]),
        ("the current directory's name", &[("Dockerfile", "")], &["project:3"], &["Dockerfile runs in 1: docker.io/library/project:3"], &[]),
        ("the comment decides", &[("x/Dockerfile", "# image: team/web")], &["team/web:7"], &["x/Dockerfile runs in 1: docker.io/team/web:7"], &[]),
        (
            "the comment beats the directory",
            &[("web/Dockerfile", ""), ("x/Dockerfile", "# image: web")],
            &["web"],
            &["x/Dockerfile runs in 1: docker.io/library/web:latest"],
            &["unused-dockerfile"],
        ),
        ("a tag in the comment is meant", &[("x/Dockerfile", "# image: web:2")], &["web:1"], &[], &["unused-dockerfile"]),
        (
            "one Dockerfile and one image",
            &[("docker/Dockerfile", "")],
            &["shop:1", "ghcr.io/other/thing:1"],
            &["docker/Dockerfile runs in 1: docker.io/library/shop:1"],
            &[],
        ),
        ("one Dockerfile and two images are not guessed", &[("docker/Dockerfile", "")], &["shop:1", "other:1"], &[], &["unused-dockerfile"]),
        (
            "a digest is never built",
            &[("web/Dockerfile", "")],
            &["web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
            &[],
            &["unused-dockerfile"],
        ),
        (
            "two that claim one",
            &[("a/web/Dockerfile", ""), ("web.Dockerfile", "")],
            &["web"],
            &[],
            &["ambiguous-image", "unused-dockerfile", "unused-dockerfile"],
        ),
        (
            "no manifests: each is built",
            &[("web/Dockerfile", ""), ("x/Dockerfile", "# image: api:2")],
            &[],
            &["web/Dockerfile runs in 0: docker.io/library/web:latest", "x/Dockerfile runs in 0: docker.io/library/api:2"],
            &[],
        ),
        ("not a reference", &[("web/Dockerfile", "")], &["Web Site"], &[], &["invalid-image", "unused-dockerfile"]),
    ];
    for (what, dockerfiles, images, expected, codes) in rows {
        let (found, mut found_codes) = built(dockerfiles, images);
        found_codes.sort_unstable();
        assert_eq!(found, *expected, "{what}");
        assert_eq!(found_codes, *codes, "{what}");
    }
}

#[test]
fn names_of_contexts_do_not_depend_on_where_the_project_lies() {
    let contexts = |root: &str, ignore: &[&str]| {
        let mut inputs = empty();
        for (name, own) in [("web", &[][..]), ("api", ignore)] {
            let ignore = own.iter().map(|line| (*line).to_owned()).collect();
            let dockerfile = Dockerfile {
                path: format!("{name}/Dockerfile"),
                text: "FROM scratch\nCOPY a /a\n".into(),
                context: format!("{root}/{name}"),
                ignore,
                optional: false,
                image: None,
            };
            inputs.dockerfiles.push(dockerfile);
        }
        let plan = compile(&inputs, &BTreeMap::new()).plan.expect("a plan");
        let ids: Vec<String> = plan.build.steps.iter().map(|step| step.id.0.to_string()).collect();
        (plan.build.contexts.keys().cloned().collect::<Vec<_>>(), ids)
    };
    let (names, ids) = contexts("/home/me/shop", &[]);
    assert_eq!(names, ["api", "web"]);
    assert_eq!(contexts("/srv/checkout", &[]), (names, ids));
}
