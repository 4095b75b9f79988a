//! Lowering never panics, and its plans hold together, whatever the instructions are.

use proptest::prelude::*;
use strake_stages::{Request, base_references, lower};

use crate::bases::{all, request};

const LINES: &[&str] = &[
    "FROM busybox AS a",
    "FROM a AS b",
    "FROM scratch",
    "FROM triggers",
    "FROM --platform=$BUILDPLATFORM busybox",
    "FROM $X",
    "ARG X",
    "ARG X=$Y Y=2",
    "ENV X=${Y:-$Z} Y='$X'",
    "COPY --from=a /x /y",
    "COPY --from=1 x /y/",
    "COPY <<E /e\n$X\nE",
    "COPY a* b ../c .",
    "ADD --chmod=$X x y",
    "RUN --mount=from=b,target=/m x",
    "RUN --mount=type=cache,target=$X y",
    "RUN <<E\n#!/x\nE",
    "WORKDIR $X/../y",
    "USER ${X}",
    "EXPOSE $X 80-82",
    "ONBUILD COPY --from=0 /a /b",
    "ONBUILD RUN x",
    "ENTRYPOINT x",
    "SHELL [\"a\"]",
    "NONSENSE",
    "LABEL",
];

fn dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(LINES.to_vec()), 0..14).prop_map(|lines| format!("FROM busybox\n{}\n", lines.join("\n")))
}

fn asked(text: &str, target: Option<u8>) -> Request {
    let (mut request, _) = request(text);
    request.target = target.map(|number| number.to_string());
    request.build_args.insert("Y".to_owned(), Some("given".to_owned()));
    request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_hold_together(text in dockerfile(), target in prop::option::of(0_u8..4)) {
        let request = asked(&text, target);
        let (_, found) = base_references(&request);
        let (plan, diagnostics) = lower(&request, &all());
        prop_assert_eq!(plan.is_none(), diagnostics.iter().any(strake_source::Diagnostic::is_error));
        for finding in found.iter().chain(&diagnostics) {
            if let Some(span) = finding.span {
                prop_assert!(text.get(span.start as usize..span.end as usize).is_some(), "{:?}", finding);
            }
        }
        let Some(plan) = plan else { return Ok(()) };
        for (index, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.op.inputs().iter().all(|input| input.0 < index));
            prop_assert!(plan.steps[..index].iter().all(|other| other.id != step.id));
        }
        let image = &plan.images[0];
        let mut layers = 0;
        let mut step = Some(image.step);
        while let Some(index) = step {
            let op = &plan.step(index).op;
            layers += match op {
                strake_plan::Op::Scratch => 0,
                strake_plan::Op::Base { diff_ids, .. } => diff_ids.len(),
                _ => 1,
            };
            step = op.parent();
        }
        prop_assert_eq!(image.history.iter().filter(|row| !row.empty_layer).count(), layers, "each layer has its row");
        prop_assert_eq!(lower(&request, &all()).0, Some(plan), "the same every time");
    }
}
