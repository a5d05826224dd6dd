//! The range test of learning rates (Smith 2015): a short training whose rate rises from step to step, and what its loss says.

use std::sync::atomic::{AtomicBool, Ordering};

use super::setup::Task;
use super::{Place, Settings};
use crate::exec::Training;
use crate::net::Net;
use crate::{Error, Result};

/// Share of the smoothed loss that a step keeps.
const KEPT: f64 = 0.9;
/// The test ends where the smoothed loss is this many times its lowest.
const DIVERGED: f64 = 4.0;
/// The loss must have fallen to this share of its start for a rate to be told.
const FALLEN: f64 = 0.98;

/// Which rates are tried.
#[derive(Clone, Copy, Debug)]
pub struct LrRange {
    /// The first.
    pub from: f64,
    /// The last.
    pub to: f64,
    /// Steps from one to the other, equal factors apart.
    pub steps: usize,
}

/// A step of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrStep {
    /// Its rate.
    pub rate: f64,
    /// The loss before it.
    pub loss: f64,
    /// The losses up to here, each older one counting nine tenths of the next.
    pub smooth: f64,
}

/// Trains for a while from the start, with rates that rise, and hands back the steps until the loss has grown to four times
/// its lowest or is no number. Nothing is saved.
///
/// # Errors
/// Data, network or settings don't fit together.
pub fn lr_find(settings: &Settings, place: &Place, range: LrRange, interrupt: &AtomicBool) -> Result<Vec<LrStep>> {
    if !(range.from > 0.0 && range.to > range.from && range.to <= 1e6 && range.steps >= 10) {
        return Err(Error::usage(format!("rates from {} to {} in {} steps", range.from, range.to, range.steps))
            .advice("Choose a range as --from 1e-6 --to 10, and 10 steps or more."));
    }
    let task = Task::open(settings, Net::open(&settings.net)?, place.data_dir.clone())?;
    let tensors = task.start(settings)?;
    let mut training = Training::new(&task.net, tensors, &task.options, &place.device(settings), settings.batch_size)?;
    let (mut steps, mut mean, mut weight) = (Vec::new(), 0.0, 1.0);
    let mut lowest = f64::INFINITY;
    let factor = ((range.to / range.from).ln() / (range.steps - 1) as f64).exp();
    let mut rate = range.from;
    for batch in (0..).flat_map(|epoch| task.train.epoch(epoch, 0)).take(range.steps) {
        if interrupt.load(Ordering::Relaxed) {
            break;
        }
        let result = training.step(&batch?, rate as f32, steps.len() as u64)?;
        let loss = f64::from(result.loss);
        mean = KEPT * mean + (1.0 - KEPT) * loss;
        weight *= KEPT;
        let smooth = mean / (1.0 - weight);
        // NaN has diverged too.
        if !result.finite || (smooth > DIVERGED * lowest) {
            break;
        }
        lowest = lowest.min(smooth);
        steps.push(LrStep { rate, loss, smooth });
        rate *= factor;
    }
    Ok(steps)
}

/// The rate at which the smoothed loss falls fastest, for a factor of the rate; none if it hardly falls. Looked for between
/// the start and the lowest loss; the slope is that over two tenths of the steps.
pub fn steepest(steps: &[LrStep]) -> Option<f64> {
    let lowest = (0..steps.len()).min_by(|a, b| steps[*a].smooth.total_cmp(&steps[*b].smooth))?;
    if steps[lowest].smooth > FALLEN * steps[0].smooth {
        return None;
    }
    let half = (steps.len() / 10).max(1);
    let fall = |at: usize| {
        let (first, last) = (at.saturating_sub(half), (at + half).min(steps.len() - 1));
        (steps[first].smooth - steps[last].smooth) / (last - first) as f64
    };
    let at = (0..=lowest).max_by(|a, b| fall(*a).total_cmp(&fall(*b)))?;
    Some(steps[at].rate)
}

#[cfg(test)]
mod tests {
    use super::super::resume_tests::bits_world;
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn the_rate_told_is_where_the_loss_falls_fastest() {
        // Flat up to step 40, down to step 60, flat to 70, then up.
        let loss = |i: usize| match i {
            0..40 => 2.3,
            40..60 => 2.3 - 0.05 * (i - 40) as f64,
            60..70 => 1.3,
            _ => 1.3 + 0.2 * (i - 70) as f64,
        };
        let rate = |i: usize| 1e-6 * 1.2f64.powi(i as i32);
        let steps: Vec<LrStep> = (0..90).map(|i| LrStep { rate: rate(i), loss: loss(i), smooth: loss(i) }).collect();
        let told = steepest(&steps).unwrap();
        assert!((rate(45)..=rate(55)).contains(&told), "{told}");
        assert_eq!(steepest(&steps[..40]), None, "no rate where nothing falls");
        assert_eq!(steepest(&[]), None);
    }

    #[test]
    fn rates_rise_by_equal_factors_until_the_loss_has_grown() {
        let world = bits_world();
        let settings = settings(world.path(), "");
        let place = Place { device: crate::exec::Device::cpu(2), ..Place::default() };
        let run = |to: f64| {
            lr_find(&settings, &place, LrRange { from: 1e-4, to, steps: 61 }, &AtomicBool::new(false)).unwrap()
        };
        let steps = run(1e-1);
        assert!(steps.len() > 40, "{} steps, many epochs of 6", steps.len());
        assert!((steps[40].rate - 1e-2).abs() < 1e-9 && (steps[20].rate - 1e-3).abs() < 1e-9);
        assert_eq!(steps[0].smooth, steps[0].loss);
        assert_eq!(run(1e-1), steps);
        assert!(run(1e6).len() < 61, "ends where the loss has grown");
        let told = steepest(&steps).unwrap();
        assert!((1e-4..1e-1).contains(&told), "{told}");
        let wrong = LrRange { from: 1.0, to: 0.1, steps: 50 };
        assert!(
            lr_find(&settings, &place, wrong, &AtomicBool::new(false)).unwrap_err().what().contains("from 1 to 0.1")
        );
    }
}
