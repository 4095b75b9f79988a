//! How long a container takes, printed for people and not judged: other work may share the machine. `make bench` compares.

use std::time::{Duration, Instant};

use strake_container::{ContainerSpec, Executor, NetworkNamespace};

use crate::Test;
use crate::stage::Stage;

pub const TESTS: &[Test] =
    &[("create_to_remove_is_fast", create_to_remove_is_fast), ("exec_is_fast_and_monitors_are_small", exec_is_fast_and_monitors_are_small)];

type Change<'a> = &'a dyn Fn(&mut ContainerSpec);

fn create_to_remove_is_fast(stage: &Stage) {
    let host = |spec: &mut ContainerSpec| spec.network = NetworkNamespace::Host;
    let limited = |spec: &mut ContainerSpec| {
        spec.limits.memory_bytes = Some(64 << 20);
        spec.limits.pids = Some(100);
        spec.limits.cpu_milli = Some(1000);
    };
    let pause = Duration::from_millis(200);
    let cases: [(&str, Change<'_>, Duration); 5] = [
        ("host network", &host, Duration::ZERO),
        ("own network", &|_| {}, Duration::ZERO),
        ("own network and limits", &limited, Duration::ZERO),
        ("own network, after 200 ms of rest", &|_| {}, pause),
        ("own network and limits, after 200 ms of rest", &limited, pause),
    ];
    for (name, change, pause) in cases {
        let sample = || {
            std::thread::sleep(pause);
            once(stage, change)
        };
        let mut samples: Vec<[Duration; 5]> = (0..20).map(|_| sample()).collect();
        samples.sort_by_key(|sample| sample.iter().sum::<Duration>());
        let median = samples[samples.len() / 2];
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let total: Duration = median.iter().sum();
        println!(
            "    {name}: {:.2} ms (create {:.2}, start {:.2}, output's end {:.2}, wait {:.2}, remove {:.2}); fastest {:.2}",
            ms(total),
            ms(median[0]),
            ms(median[1]),
            ms(median[2]),
            ms(median[3]),
            ms(median[4]),
            ms(samples[0].iter().sum())
        );
    }
}

fn once(stage: &Stage, change: Change<'_>) -> [Duration; 5] {
    let mut spec = stage.spec(&["true"]);
    change(&mut spec);
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        let lap = now - last;
        last = now;
        lap
    };
    let created = stage.executor.create(&spec).unwrap();
    let create = lap();
    stage.executor.start(&spec.id).unwrap();
    let start = lap();
    crate::stage::read_all(created.output.unwrap());
    let read = lap();
    assert_eq!(stage.executor.wait(&spec.id).unwrap().code, 0);
    let wait = lap();
    stage.executor.remove(&spec.id).unwrap();
    [create, start, read, wait, lap()]
}

fn exec_is_fast_and_monitors_are_small(stage: &Stage) {
    let mut spec = stage.spec(&["sleep", "1000"]);
    spec.limits.pids = Some(50);
    stage.start(&spec);
    let mut samples: Vec<Duration> = (0..20)
        .map(|_| {
            let before = Instant::now();
            assert_eq!(stage.exec(&spec.id, &["true"]).wait().unwrap(), 0);
            before.elapsed()
        })
        .collect();
    samples.sort();
    println!("    exec: {:.2} ms; fastest {:.2}", samples[10].as_secs_f64() * 1000.0, samples[0].as_secs_f64() * 1000.0);
    let state = stage.dir.path().join("root/containers").join(&spec.id.0).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", state["monitor"]["pid"])).unwrap();
    let field = |name: &str| rollup.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap();
    println!("    a monitor's own memory: {} kB of {} kB resident", field("Private_Dirty:"), field("Rss:"));
    assert!(field("Private_Dirty:") < 2000);
    stage.executor.remove(&spec.id).unwrap();
}
