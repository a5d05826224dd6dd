//! A small thread pool for steps of a millisecond.
//!
//! A network step is some dozens of parallel loops of 10 µs to 10 ms. Workers therefore spin for a short while before
//! they sleep, nothing is allocated per loop, and the caller works too. Tasks are handed out by a counter: which thread
//! runs a task is left to chance, so a task must never let its result depend on it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Rounds of `spin_loop` before a worker sleeps: about 30 µs, the time between two loops of a small network.
const SPINS: usize = 2_000;

type Task = dyn Fn(usize) + Sync;

/// What all threads see of the loop under way.
struct Shared {
    /// Raised by one for each loop; workers wait for it to change.
    epoch: AtomicUsize,
    /// The loop's body, its lifetime erased; valid while `running` is not zero or tasks are left.
    job: Mutex<Option<Job>>,
    next: AtomicUsize,
    /// Workers that have not finished the loop yet.
    running: AtomicUsize,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    body: *const Task,
    tasks: usize,
}
// SAFETY: the body is `Sync`, and `Pool::run` does not return before every worker has let go of it.
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
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map_while(|i| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("ocelli-{i}")).spawn(move || worker(&shared)).ok()
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
        let free = if self.workers.is_empty() || tasks < 2 { None } else { self.busy.try_lock().ok() };
        let Some(_guard) = free else {
            (0..tasks).for_each(body);
            return;
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function waits for all workers before it returns.
        let body_static = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Task>(body) };
        *lock(&shared.job) = Some(Job { body: body_static, tasks });
        shared.next.store(0, Ordering::Relaxed);
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        {
            let _sleep = lock(&shared.sleep);
            shared.epoch.fetch_add(1, Ordering::Release);
        }
        shared.wake.notify_all();
        shared.work(body, tasks);
        let mut spins = 0usize;
        while shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

/// Elements of a task: 64 KiB take some microseconds, many times what handing out a task costs.
const GRAIN: usize = 16 * 1024;

impl Pool {
    /// Calls `body` with ranges that together cover `0..items`, each of about 16 K elements at `elements` an item.
    pub(crate) fn run_ranges(&self, items: usize, elements: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        let each = (GRAIN / elements.max(1)).max(1);
        self.run(items.div_ceil(each), &|task| body(task * each..items.min((task + 1) * each)));
    }
}

impl Shared {
    fn work(&self, body: &(dyn Fn(usize) + Sync), tasks: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                body(task);
            }
        }));
        if let Err(panic) = result {
            self.next.store(tasks, Ordering::Relaxed);
            *lock(&self.panic) = Some(panic);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn worker(shared: &Shared) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let mut sleep = lock(&shared.sleep);
            while shared.epoch.load(Ordering::Acquire) == seen {
                sleep = shared.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        }
        seen = shared.epoch.load(Ordering::Acquire);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        if let Some(job) = *lock(&shared.job) {
            // SAFETY: `run` waits for `running` to reach zero, which this worker lowers only afterwards.
            shared.work(unsafe { &*job.body }, job.tasks);
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _sleep = lock(&self.shared.sleep);
            self.shared.epoch.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
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
