//! The loop: the scheduler's commands become work on threads, the work's ends become its events.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::Instant;

use strake_container::{ContainerId, Executor};
use strake_plan::{BuildPlan, StepIndex};
use strake_solve::{Command, Core, Ending, Event, ImageIndex, Subject, on_event};
use strake_store::Store;

use crate::assemble::assemble;
use crate::cache::{Broken, ImportedCache, Imports, InlineCache, KeyLock, StepRecord, Use, step_records};
use crate::progress::{Progress, ProgressEvent};
use crate::run::{AgentSocket, ID_PREFIX, RunFailure, Shell, empty_mounts, process_mark};
use crate::session::{Dirs, Session};
use crate::step::{Made, Part, digest_content, execute, probe};
use crate::{BuildError, BuiltImage, CancelFlag, SecretValue, StepError};

/// Steps at a time on a small machine.
const FEWEST_WORKERS: usize = 16;

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Steps at a time; 0 is two for each processor, but 16 at least, for most of a build is waiting.
    pub workers: usize,
    /// SOURCE_DATE_EPOCH: the time of everything that is made, in seconds since 1970; 0 when not given.
    pub source_date_epoch: Option<i64>,
    /// Values for `RUN --mount=type=secret` by id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// Sockets of SSH agents for `RUN --mount=type=ssh` by id.
    pub ssh: BTreeMap<String, AgentSocket>,
    /// Addresses of the names that RUNs ask for in their /etc/hosts.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Build caches of elsewhere, looked at after the machine's own.
    pub imports: Vec<ImportedCache>,
    /// Where what every step gave is added when a build has succeeded, for a build cache that travels.
    pub records: Option<Arc<Mutex<Vec<StepRecord>>>>,
    /// Which images carry the records of their own steps.
    pub inline_cache: InlineCache,
    /// Size of every RUN's /dev/shm in bytes; 0 is what containers have, 64 MiB.
    pub shm_bytes: u64,
    /// The cgroup below which those of RUNs are made, without `..`; the top when `None`.
    pub cgroup_parent: Option<String>,
    /// A shell in a step.
    pub shell: Option<Shell>,
}

/// Builds images.
#[derive(Clone)]
pub struct Builder {
    store: Arc<Store>,
    executor: Arc<dyn Executor>,
    options: BuildOptions,
}

/// What happens to one build while it runs, beside its session.
struct Drive<'env> {
    session: &'env Session<'env>,
    events: Sender<Event>,
    flags: HashMap<Subject, CancelFlag>,
    failure: &'env Mutex<Option<BuildError>>,
    images: &'env Mutex<Vec<Option<BuiltImage>>>,
}

impl Builder {
    /// A builder on a store. RUNs go to `executor`.
    pub fn new(store: Arc<Store>, executor: Arc<dyn Executor>, options: BuildOptions) -> Self {
        Builder { store, executor, options }
    }

    /// Runs a plan and gives its images, in the plan's order.
    ///
    /// Blocks until everything that was started has ended, also after a failure or a cancellation; nothing is left behind then but what was finished and
    /// remembered.
    ///
    /// # Errors
    /// [`BuildError::StepFailed`] names the first step that failed.
    pub fn run(&self, plan: &BuildPlan, progress: &dyn Progress, cancel: &CancelFlag) -> Result<Vec<BuiltImage>, BuildError> {
        check(plan)?;
        let _lease = self.store.lease().map_err(|source| BuildError::HoldStore { source })?;
        let dirs = Dirs::make(self.store.root())?;
        self.sweep(&dirs);
        empty_mounts(plan, &dirs, &self.store, cancel);
        let mut uses = vec![Use::default(); self.options.imports.len()];
        loop {
            let imports = Imports::new(&self.options.imports, &uses);
            let session = Session::new(plan, Arc::clone(&self.store), Arc::clone(&self.executor), &self.options, dirs.clone(), (imports, cancel), progress);
            let (failure, images) = (Mutex::new(None), Mutex::new(vec![None; plan.images.len()]));
            let ending = self.drive(&session, cancel, &failure, &images);
            session.save_stats();
            session.close_views();
            let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
            let failed = match ending {
                Ending::Built => {
                    let images: Option<Vec<_>> = images.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
                    let images = images.ok_or_else(|| BuildError::DamagedPlan { reason: "an image was not assembled".to_owned() })?;
                    if let Some(sink) = &self.options.records {
                        sink.lock().unwrap_or_else(PoisonError::into_inner).extend(step_records(&session));
                    }
                    return Ok(images);
                }
                Ending::Cancelled => return Err(BuildError::Cancelled),
                Ending::Failed { reason, .. } => failure.unwrap_or(BuildError::DamagedPlan { reason }),
            };
            // What was executed so far is remembered: beginning again without a cache that does not keep its promises costs next to nothing.
            match session.imports.broken() {
                Some(Broken { cache, reason: Some(reason) }) if !cancel.is_cancelled() => {
                    session.tell(ProgressEvent::CacheGivenUp { name: &self.options.imports[cache].name, reason: &reason });
                    uses[cache] = Use::Nothing;
                }
                Some(Broken { cache, reason: None }) if !cancel.is_cancelled() => uses[cache] = Use::WithLayers,
                _ => return Err(failed),
            }
        }
    }

    fn drive(&self, session: &Session<'_>, cancel: &CancelFlag, failure: &Mutex<Option<BuildError>>, images: &Mutex<Vec<Option<BuiltImage>>>) -> Ending {
        let (sender, receiver) = channel();
        let _on_cancel = {
            let sender = sender.clone();
            // Once the build is over nobody listens.
            cancel.on_cancel(move || drop(sender.send(Event::Cancelled)))
        };
        std::thread::scope(|scope| {
            let mut drive = Drive { session, events: sender, flags: HashMap::new(), failure, images };
            drive.until_the_end(scope, Core::new(session.plan, self.workers()), &receiver)
        })
    }

    fn workers(&self) -> usize {
        match self.options.workers {
            0 => std::thread::available_parallelism().map_or(FEWEST_WORKERS, |count| FEWEST_WORKERS.max(2 * count.get())),
            workers => workers,
        }
    }

    /// Removes what builds that died have left: containers end with them, but directories and lock files stay.
    fn sweep(&self, dirs: &Dirs) {
        for lock in std::fs::read_dir(&dirs.locks).into_iter().flatten().flatten() {
            // One that can be taken is nobody's, and goes when it is let go.
            drop(KeyLock::try_take(&lock.path()));
        }
        for id in self.executor.list().unwrap_or_default() {
            if is_dead_builds(&id)
                && let Err(error) = self.executor.remove(&id)
            {
                tracing::warn!(%id, %error, "the container of a build that died could not be removed");
            }
        }
    }
}

/// Whether a container, half-made perhaps, was a build's whose process is gone: nobody will come back for it.
pub fn is_left_behind(id: &ContainerId) -> bool {
    is_dead_builds(id)
}

/// The container of a process that is no more: its number is nobody's, or ours from a life before.
fn is_dead_builds(id: &ContainerId) -> bool {
    let Some((pid, begun)) = id.0.strip_prefix(ID_PREFIX).and_then(|rest| rest.split_once('-')) else { return false };
    let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) else { return false };
    if pid == rustix::process::getpid() {
        return !begun.starts_with(process_mark());
    }
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// A plan may come from a file: its places must exist and inputs stand before what reads them.
fn check(plan: &BuildPlan) -> Result<(), BuildError> {
    for (place, step) in plan.steps.iter().enumerate() {
        if step.op.inputs().iter().any(|input| input.0 >= place) {
            return Err(BuildError::DamagedPlan { reason: format!("step {place} reads a step that does not stand before it") });
        }
    }
    match plan.images.iter().find(|image| image.step.0 >= plan.steps.len()) {
        Some(image) => Err(BuildError::DamagedPlan { reason: format!("an image is made of step {}, which is not there", image.step.0) }),
        None => Ok(()),
    }
}

/// The answer to a command, owed to the loop even when the work panics: else the build would wait for ever instead of showing the bug.
struct Answer {
    events: Sender<Event>,
    subject: Subject,
    given: bool,
}

impl Answer {
    fn give(mut self, event: Event) {
        self.given = true;
        // Nobody listens only when the loop itself is gone.
        let _ = self.events.send(event);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            let _ = self.events.send(Event::Failed { subject: self.subject, reason: "a bug ended the work".to_owned() });
        }
    }
}

impl<'env> Drive<'env> {
    fn until_the_end<'scope>(&mut self, scope: &'scope Scope<'scope, 'env>, mut core: Core, receiver: &Receiver<Event>) -> Ending {
        let mut commands = Vec::new();
        let mut event = Event::Start;
        loop {
            on_event(&mut core, event, &mut commands);
            // Look-ups are quicker than waking a thread: their answers are taken at once.
            let mut answers = Vec::new();
            for command in commands.drain(..) {
                match command {
                    Command::End(ending) => return ending,
                    Command::Probe { step, by_content } => answers.push(self.probe(step, by_content)),
                    Command::Stop { subject } => self.flags.get(&subject).into_iter().for_each(CancelFlag::cancel),
                    Command::Key { step, stages } => self.work(scope, Subject::Step(step), move |session, _| {
                        digest_content(session, step, if stages { Part::Stages } else { Part::Contexts })
                            .map(|()| Event::ContentKeyed { step })
                            .map_err(RunFailure::from)
                    }),
                    Command::Execute { step } => self.work(scope, Subject::Step(step), move |session, cancel| execute_and_tell(session, step, cancel)),
                    Command::Assemble { image } => self.assemble(scope, image),
                }
            }
            for answer in answers {
                // The receiver lives as long as this loop.
                let _ = self.events.send(answer);
            }
            event = match receiver.recv() {
                Ok(event) => event,
                Err(_) => return Ending::Cancelled,
            };
        }
    }

    fn probe(&self, step: StepIndex, by_content: bool) -> Event {
        match probe(self.session, step, by_content) {
            Ok(hit) => {
                if let Some(chain) = hit {
                    self.session.set_chain(step, chain);
                    self.session.tell(ProgressEvent::Cached { index: step, step: self.session.plan.step(step) });
                }
                Event::Probed { step, hit }
            }
            Err(error) => fail_step(self.session, self.failure, step, error.into()),
        }
    }

    /// Does something for a step on a thread of its own; the scheduler limits how many there are.
    fn work<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        subject: Subject,
        work: impl FnOnce(&Session<'_>, &CancelFlag) -> Result<Event, RunFailure> + Send + 'scope,
    ) {
        let flag = CancelFlag::new();
        self.flags.insert(subject, flag.clone());
        let (session, failure) = (self.session, self.failure);
        let answer = Answer { events: self.events.clone(), subject, given: false };
        scope.spawn(move || {
            let event = match (work(session, &flag), subject) {
                (Ok(event), _) => event,
                // Whatever goes wrong after being told to stop is the stopping.
                (Err(_), Subject::Step(step)) if flag.is_cancelled() => fail_step(session, failure, step, StepError::Cancelled.into()),
                (Err(failed), Subject::Step(step)) => fail_step(session, failure, step, failed),
                (Err(failed), Subject::Image(_)) => Event::Failed { subject, reason: failed.error.to_string() },
            };
            answer.give(event);
        });
    }

    fn assemble<'scope>(&mut self, scope: &'scope Scope<'scope, 'env>, image: ImageIndex) {
        let (failure, images) = (self.failure, self.images);
        self.work(scope, Subject::Image(image), move |session, _| {
            let planned = &session.plan.images[image.0];
            if let Err(source) = session.ensure(planned.step) {
                let reason = source.to_string();
                keep_first(failure, BuildError::LayersFailed { tags: planned.tags.clone(), source: Box::new(source) });
                return Ok(Event::Failed { subject: Subject::Image(image), reason });
            }
            match assemble(session, planned) {
                Ok(built) => {
                    session.tell(ProgressEvent::Assembled { image: &built });
                    images.lock().unwrap_or_else(PoisonError::into_inner)[image.0] = Some(built);
                    Ok(Event::Assembled { image })
                }
                Err(source) => {
                    let reason = source.to_string();
                    keep_first(failure, BuildError::ImageFailed { tags: planned.tags.clone(), source: Box::new(source) });
                    Ok(Event::Failed { subject: Subject::Image(image), reason })
                }
            }
        });
    }
}

fn execute_and_tell(session: &Session<'_>, index: StepIndex, cancel: &CancelFlag) -> Result<Event, RunFailure> {
    let (begin, step) = (Instant::now(), session.plan.step(index));
    match execute(session, index, cancel) {
        Ok(Made::Executed(chain)) => {
            session.set_chain(index, chain);
            session.tell(ProgressEvent::Done { index, step, duration: begin.elapsed() });
            Ok(Event::Finished { step: index, chain })
        }
        Ok(Made::Found(chain)) => {
            session.set_chain(index, chain);
            session.tell(ProgressEvent::Cached { index, step });
            Ok(Event::Finished { step: index, chain })
        }
        Err(failure) => Err(failure),
    }
}

/// Records why a step failed; the first failure is the build's. What was given up did not fail.
fn fail_step(session: &Session<'_>, failure: &Mutex<Option<BuildError>>, index: StepIndex, failed: RunFailure) -> Event {
    let step = session.plan.step(index);
    let reason = failed.error.to_string();
    if !matches!(*failed.error, StepError::Cancelled) {
        session.tell(ProgressEvent::Failed { index, step, error: &failed.error });
        let exit_code = failed.error.exit_code();
        keep_first(failure, BuildError::StepFailed { origin: step.origin.clone(), exit_code, output_tail: failed.output_tail, reason: failed.error });
    }
    Event::Failed { subject: Subject::Step(index), reason }
}

fn keep_first(failure: &Mutex<Option<BuildError>>, error: BuildError) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}
