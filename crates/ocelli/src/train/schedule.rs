//! Learning rates over a run: a pure function of the step and of what a plateau has done so far.
//!
//! Names and formulas are PyTorch's: StepLR, MultiStepLR, CosineAnnealingLR, OneCycleLR, LinearLR, ReduceLROnPlateau. The cosine,
//! one-cycle and linear rates move every step, the others every epoch.

use std::f64::consts::{FRAC_PI_2, PI};

use serde::{Deserialize, Serialize};

use super::{Monitor, ScheduleName, Settings};

/// The learning rate of every step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    name: ScheduleName,
    lr: f64,
    min_lr: f64,
    gamma: f64,
    step_epochs: u64,
    milestones: Vec<u64>,
    steps_per_epoch: u64,
    total_steps: u64,
    warmup_steps: u64,
}

impl Schedule {
    /// The schedule of a run whose epochs have `steps_per_epoch` steps.
    pub fn new(settings: &Settings, steps_per_epoch: u64) -> Schedule {
        Schedule {
            name: settings.schedule,
            lr: settings.lr(),
            min_lr: settings.min_lr,
            gamma: settings.gamma,
            step_epochs: settings.step_epochs,
            milestones: settings.milestones.clone(),
            steps_per_epoch,
            total_steps: settings.epochs * steps_per_epoch,
            warmup_steps: (settings.warmup_epochs * steps_per_epoch as f64).round() as u64,
        }
    }

    /// The rate of a step, counted from 0. `factor` is what the plateau rule has made of the rate, 1 at first.
    pub fn lr(&self, step: u64, factor: f64) -> f32 {
        let epoch = step / self.steps_per_epoch;
        let rate = match self.name {
            ScheduleName::OneCycle => return self.one_cycle(step) as f32,
            ScheduleName::Constant => self.lr,
            ScheduleName::Step => self.lr * power(self.gamma, epoch / self.step_epochs),
            ScheduleName::Multistep => {
                self.lr * power(self.gamma, self.milestones.iter().filter(|end| **end <= epoch).count() as u64)
            }
            ScheduleName::Cosine => anneal(self.lr, self.min_lr, self.part_after_warmup(step)),
            ScheduleName::Linear => self.lr + (self.min_lr - self.lr) * self.part_after_warmup(step).min(1.0),
            ScheduleName::Plateau => self.lr * factor,
        };
        let rate = rate.max(self.min_lr);
        // The rise is linear (Goyal et al. 2017); the first step has a rate above 0 already.
        match step < self.warmup_steps {
            true => (rate * (step + 1) as f64 / self.warmup_steps as f64) as f32,
            false => rate as f32,
        }
    }

    /// The share of the steps after the warm-up that come before this one.
    fn part_after_warmup(&self, step: u64) -> f64 {
        let length = (self.total_steps - self.warmup_steps.min(self.total_steps)).max(1);
        step.saturating_sub(self.warmup_steps) as f64 / length as f64
    }

    /// Smith and Topin 2017, as PyTorch: from lr/25 up to lr in the first 30 % of the steps (or in the warm-up), then down
    /// to lr/250,000, both along half a cosine.
    fn one_cycle(&self, step: u64) -> f64 {
        let last = (self.total_steps.max(2) - 1) as f64;
        let rise = match self.warmup_steps {
            0 => 0.3 * self.total_steps as f64 - 1.0,
            steps => steps as f64,
        };
        let (rise, step) = (rise.clamp(1.0, last), step as f64);
        match step <= rise {
            true => anneal(self.lr / 25.0, self.lr, step / rise),
            false => anneal(self.lr, self.lr / 25.0 / 1e4, (step - rise) / (last - rise)).max(self.min_lr),
        }
    }
}

/// From `start` to `end` along half a cosine.
fn anneal(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) * (1.0 + cos_pi(part.clamp(0.0, 1.0))) / 2.0
}

/// `base` to a whole power, by multiplication: the bits do not depend on a mathematics library.
fn power(base: f64, exponent: u64) -> f64 {
    // 0.1 to the 400th power is 0 already, and so is the rest.
    (0..exponent.min(4096)).fold(1.0, |product, _| product * base)
}

/// cos(π·x) for x in [0, 1] by Taylor's series, for the same reason.
fn cos_pi(x: f64) -> f64 {
    // cos(π·x) = −sin(π·(x − ½)), an odd series with |argument| ≤ π/2: twelve terms leave less than 1e-16.
    let a = PI * x - FRAC_PI_2;
    let sine = (1..12).rev().fold(1.0, |sum, k| 1.0 - a * a / (2 * k * (2 * k + 1)) as f64 * sum);
    -a * sine
}

/// What reduce-on-plateau remembers: AlexNet's rule, "divide the learning rate by 10 when the validation error rate stopped
/// improving" (Krizhevsky et al. 2012).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// What the rate is multiplied by.
    pub factor: f64,
    /// The best value so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// Epochs since then or since the last drop.
    pub bad_epochs: u64,
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau { factor: 1.0, best: None, bad_epochs: 0 }
    }
}

impl Plateau {
    /// Takes in the value of an epoch; after more than `patience` epochs without progress the rate drops by `gamma`.
    pub fn update(&mut self, value: f64, monitor: Monitor, gamma: f64, patience: u64) {
        if self.best.is_none_or(|best| monitor.is_better(value, best)) && !value.is_nan() {
            self.best = Some(value);
            self.bad_epochs = 0;
        } else {
            self.bad_epochs += 1;
        }
        if self.bad_epochs > patience {
            self.factor *= gamma;
            self.bad_epochs = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(schedule: ScheduleName) -> Settings {
        Settings { schedule, lr: Some(0.5), epochs: 30, ..Settings::default() }
    }

    /// The columns of PyTorch's rates: base 0.5, 30 epochs, a step an epoch.
    fn golden(column: &str) -> Vec<f64> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/schedules.csv");
        let mut reader = csv::Reader::from_path(path).unwrap();
        let at = reader.headers().unwrap().iter().position(|name| name == column).unwrap();
        reader.records().map(|row| row.unwrap()[at].parse().unwrap()).collect()
    }

    fn assert_follows(schedule: &Schedule, column: &str) {
        for (step, want) in golden(column).into_iter().enumerate() {
            let lr = f64::from(schedule.lr(step as u64, 1.0));
            assert!((lr - want).abs() <= 1e-7 * want.abs(), "{column}, step {step}: {lr}, PyTorch {want}");
        }
    }

    #[test]
    fn rates_are_those_of_pytorch() {
        let step = Settings { step_epochs: 7, ..settings(ScheduleName::Step) };
        assert_follows(&Schedule::new(&step, 1), "step");
        let multistep = Settings { milestones: vec![5, 12, 20], gamma: 0.3, ..settings(ScheduleName::Multistep) };
        assert_follows(&Schedule::new(&multistep, 1), "multistep");
        let cosine = Settings { min_lr: 0.01, ..settings(ScheduleName::Cosine) };
        assert_follows(&Schedule::new(&cosine, 1), "cosine");
        let linear = Settings { min_lr: 0.01, ..settings(ScheduleName::Linear) };
        assert_follows(&Schedule::new(&linear, 1), "linear");
        let one_cycle = Settings { epochs: 31, ..settings(ScheduleName::OneCycle) };
        assert_follows(&Schedule::new(&one_cycle, 1), "one_cycle");
    }

    #[test]
    fn the_plateau_rule_drops_where_pytorch_drops() {
        let settings = Settings { min_lr: 1e-4, ..settings(ScheduleName::Plateau) };
        let schedule = Schedule::new(&settings, 1);
        let mut plateau = Plateau::default();
        for (epoch, (loss, want)) in golden("loss").into_iter().zip(golden("plateau")).enumerate() {
            let lr = f64::from(schedule.lr(epoch as u64, plateau.factor));
            assert!((lr - want).abs() <= 1e-7 * want, "epoch {epoch}: {lr}, PyTorch {want}");
            plateau.update(loss, Monitor::Loss, 0.1, 3);
        }
    }

    #[test]
    fn nan_is_no_progress() {
        let mut plateau = Plateau::default();
        for value in [f64::NAN, 1.0, f64::NAN, f64::NAN] {
            plateau.update(value, Monitor::Loss, 0.1, 1);
        }
        assert_eq!((plateau.best, plateau.factor), (Some(1.0), 0.1));
    }

    #[test]
    fn rates_change_at_the_first_step_of_an_epoch() {
        let schedule = Schedule::new(&Settings { step_epochs: 2, ..settings(ScheduleName::Step) }, 10);
        assert_eq!([19, 20, 39, 40].map(|step| schedule.lr(step, 1.0)), [0.5, 0.05, 0.05, 0.005]);
    }

    #[test]
    fn a_warm_up_rises_in_equal_steps_and_the_cosine_follows_it() {
        let warm = Settings { warmup_epochs: 0.5, epochs: 1, ..settings(ScheduleName::Constant) };
        let schedule = Schedule::new(&warm, 8);
        assert_eq!([0, 1, 2, 3, 4, 7].map(|step| schedule.lr(step, 1.0)), [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
        let cosine = Schedule::new(&Settings { schedule: ScheduleName::Cosine, ..warm }, 8);
        assert_eq!([3, 4, 6].map(|step| cosine.lr(step, 1.0)), [0.5, 0.5, 0.25]);
        let cycle = Schedule::new(
            &Settings { schedule: ScheduleName::OneCycle, warmup_epochs: 2.0, ..settings(ScheduleName::OneCycle) },
            5,
        );
        assert_eq!([0, 10].map(|step| cycle.lr(step, 1.0)), [0.02, 0.5]);
    }

    #[test]
    fn no_schedule_gives_a_rate_that_is_not_a_number() {
        use ScheduleName::*;
        for name in [Constant, Step, Multistep, Cosine, OneCycle, Linear, Plateau] {
            for (epochs, warmup_epochs, steps) in [(1, 0.0, 1), (1, 1.0, 1), (2, 2.0, 3), (1, 0.3, 2)] {
                let settings = Settings { schedule: name, epochs, warmup_epochs, ..Settings::default() };
                let schedule = Schedule::new(&settings, steps);
                for step in 0..2 * epochs * steps {
                    let lr = schedule.lr(step, 1.0);
                    assert!(lr.is_finite() && (0.0..=0.01).contains(&lr), "{name:?} step {step}: {lr}");
                }
            }
        }
    }

    #[test]
    fn the_cosine_is_the_cosine() {
        for i in 0..=1000 {
            let x = f64::from(i) / 1000.0;
            assert!((cos_pi(x) - (PI * x).cos()).abs() < 1e-15, "{x}");
        }
    }
}
