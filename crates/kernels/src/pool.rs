//! A small thread pool for steps of a millisecond.
//!
//! A network step is some dozens of parallel loops of 10 µs to 10 ms. Workers therefore spin for a short while before
//! they sleep, nothing is allocated per loop, and the caller works too. A thread first takes its own share of the tasks, a run of
//! neighbours that is the same in every loop, so that what it reads is mostly what it wrote; then what others have left of
//! theirs. Which thread runs a task is so left to chance, and a task must never let its result depend on it.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Rounds of `spin_loop` before a worker sleeps: some 0.2 ms, longer than what one thread does alone between two
/// loops, because waking it takes a hundred of them on some virtual machines.
const SPINS: usize = 10_000;

/// Elements of a range.
pub(crate) const GRAIN: usize = 16_384;

type Task = dyn Fn(usize, usize) + Sync;

/// What all threads see of the loop under way.
struct Shared {
    /// `loops << 32 | OPEN | joined`: loops started so far, whether the last one still takes workers, and how many
    /// are inside it. The caller waits only for workers that joined, never for one that is still waking up.
    state: AtomicU64,
    /// The loop's body, its lifetime erased; read only by workers that joined.
    job: UnsafeCell<Option<Job>>,
    /// The next task of each thread's share.
    next: Box<[Counter]>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}
// SAFETY: `job` is written by the one caller that holds `Pool::busy`, only while the state is closed with no worker
// inside, and read only by workers between joining and leaving.
unsafe impl Sync for Shared {}

/// A counter in a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

const LOOP: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;

#[derive(Clone, Copy)]
struct Job {
    body: *const Task,
    tasks: usize,
}
// SAFETY: the body is `Sync`, and `Pool::run` does not return before every worker that joined has left.
unsafe impl Send for Job {}

/// Runs loops on a fixed number of threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads in all, at least one.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: (0..threads.max(1)).map(|_| Counter::default()).collect(),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map_while(|i| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("ocelli-{i}")).spawn(move || worker(&shared, i)).ok()
            })
            .collect();
        Pool { shared, workers, busy: Mutex::new(()) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(0)` … `body(tasks - 1)`, each once, on all threads, and returns when all are done. A panic in a task
    /// is raised again here. A loop inside a task runs on that task's thread alone.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.run_on(tasks, &|task, _| body(task));
    }

    /// Calls `body` with ranges that together cover `0..items`, each of about 16 K elements at `elements` an item.
    pub(crate) fn run_ranges(&self, items: usize, elements: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        let each = (GRAIN / elements.max(1)).max(1);
        self.run(items.div_ceil(each), &|task| body(task * each..items.min((task + 1) * each)));
    }

    /// As [`Pool::run`]; the body also gets a number below [`Pool::threads`] that no other task running at the same
    /// time has, to choose its scratch memory by.
    pub fn run_on(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        let free = if self.workers.is_empty() || tasks < 2 { None } else { self.busy.try_lock().ok() };
        let Some(_guard) = free else {
            (0..tasks).for_each(|task| body(task, 0));
            return;
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function waits for all workers that join before it returns.
        let body_static =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), *const Task>(body) };
        // SAFETY: the state is closed and no worker is inside: the previous loop waited for that.
        unsafe { *shared.job.get() = Some(Job { body: body_static, tasks }) };
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(shared.share(tasks, thread).start, Ordering::Relaxed);
        }
        let before = shared.state.load(Ordering::Relaxed);
        shared.state.store((before & !(OPEN | JOINED)).wrapping_add(LOOP) | OPEN, Ordering::SeqCst);
        shared.wake_sleepers();
        shared.work(body, tasks, 0);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0usize;
        while shared.state.load(Ordering::Acquire) & JOINED != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// The tasks that a thread takes first.
    fn share(&self, tasks: usize, thread: usize) -> Range<usize> {
        let bound =
            |thread: usize| tasks / self.next.len() * thread + tasks % self.next.len() * thread / self.next.len();
        bound(thread)..bound(thread + 1)
    }

    fn work(&self, body: &(dyn Fn(usize, usize) + Sync), tasks: usize, thread: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            for i in 0..self.next.len() {
                let owner = (thread + i) % self.next.len();
                let end = self.share(tasks, owner).end;
                loop {
                    let task = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                    if task >= end {
                        break;
                    }
                    body(task, thread);
                }
            }
        }));
        if let Err(panic) = result {
            self.next.iter().for_each(|next| next.0.store(tasks, Ordering::Relaxed));
            *lock(&self.panic) = Some(panic);
        }
    }

    /// A system call of some microseconds, and so only where somebody sleeps. A worker counts itself before it looks
    /// at the state for the last time, so either it sees the new state or it is seen here.
    fn wake_sleepers(&self) {
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            let _sleep = lock(&self.sleep);
            self.wake.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn worker(shared: &Shared, thread: usize) {
    let mut seen = 0;
    let news = |state: u64, seen: u64| state / LOOP != seen;
    loop {
        let mut spins = 0;
        while !news(shared.state.load(Ordering::Acquire), seen) {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let mut sleep = lock(&shared.sleep);
            shared.sleepers.fetch_add(1, Ordering::SeqCst);
            while !news(shared.state.load(Ordering::SeqCst), seen) {
                sleep = shared.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            shared.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        let mut state = shared.state.load(Ordering::Acquire);
        seen = state / LOOP;
        // After the state, not before: the last news is the end, and who has counted it as seen must know.
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        while state & OPEN != 0 {
            match shared.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    seen = state / LOOP;
                    // SAFETY: this worker joined, so the caller neither changes the job nor returns until it leaves.
                    unsafe {
                        if let Some(job) = *shared.job.get() {
                            shared.work(&*job.body, job.tasks, thread);
                        }
                    }
                    shared.state.fetch_sub(1, Ordering::Release);
                    break;
                }
                Err(now) => state = now,
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.state.fetch_add(LOOP, Ordering::SeqCst);
        self.shared.wake_sleepers();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// A pointer that tasks share, each writing elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shares<T>(*mut T, usize);
// SAFETY: access is through the unsafe methods, whose callers keep the parts of different tasks apart.
unsafe impl<T: Send> Send for Shares<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shares<T> {}

impl<T> Shares<T> {
    pub fn new(slice: &mut [T]) -> Shares<T> {
        Shares(slice.as_mut_ptr(), slice.len())
    }
    /// The part `[start, start + len)`, bounds checked.
    ///
    /// # Safety
    /// No two tasks may hold overlapping parts at the same time.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.1 && len <= self.1 - start, "part {start}+{len} of {}", self.1);
        // SAFETY: in bounds as just checked; not aliased as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
    /// The first element's address.
    #[allow(dead_code)]
    #[inline(always)]
    pub fn pointer(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in [0, 1, 2, 5, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn a_loop_inside_a_task_runs_on_that_thread() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        pool.run(4, &|_| pool.run(5, &|_| _ = total.fetch_add(1, Ordering::Relaxed)));
        assert_eq!(total.into_inner(), 20);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(10, &|i| assert!(i != 7, "task seven"))));
        assert!(result.is_err());
        let total = AtomicUsize::new(0);
        pool.run(10, &|_| _ = total.fetch_add(1, Ordering::Relaxed));
        assert_eq!(total.into_inner(), 10);
    }

    #[test]
    fn loops_survive_sleeping_workers() {
        let pool = Pool::new(4);
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let total = AtomicUsize::new(0);
            pool.run(64, &|_| _ = total.fetch_add(1, Ordering::Relaxed));
            assert_eq!(total.into_inner(), 64);
        }
    }
}
