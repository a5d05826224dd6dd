//! How good a network is: top-k, intervals, confusion, precision and recall, several classes a picture, errors of numbers.

use std::cmp::Ordering;

use ocelli_kernels::math::{exp_f64, ln};

/// exp(score − highest) of each score, and their sum: without the common factor nothing overflows.
fn exponentials(scores: &[f32]) -> (Vec<f64>, f64) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| exp_f64(f64::from(*score) - f64::from(highest))).collect();
    let sum = exponentials.iter().sum();
    (exponentials, sum)
}

/// Probabilities of scores (logits): exp(score) / Σ exp. NaN where a score is NaN.
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let (exponentials, sum) = exponentials(scores);
    exponentials.into_iter().map(|e| (e / sum) as f32).collect()
}

/// The logarithms of the mean of the softmax outputs of several rows of scores for one picture: scores whose softmax is that
/// mean. NaN where a score is NaN.
pub fn log_mean_softmax(rows: &[&[f32]]) -> Vec<f32> {
    let mut sums = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for row in rows {
        let (exponentials, total) = exponentials(row);
        sums.iter_mut().zip(exponentials).for_each(|(sum, e)| *sum += e / total);
    }
    let log = |sum: f64| if sum.is_nan() { sum } else { ln((sum / rows.len() as f64).max(f64::MIN_POSITIVE)) };
    sums.into_iter().map(|sum| log(sum) as f32).collect()
}

/// The expected calibration error (Guo et al. 2017) of answers, each with its probability and whether it is right: in 15
/// bins of probability, |share that is right − mean probability|, weighted by the answers in the bin.
pub fn calibration_error(answers: impl IntoIterator<Item = (f32, bool)>) -> f64 {
    const BINS: usize = 15;
    let (mut all, mut bins) = (0usize, [(0.0f64, 0.0f64); BINS]);
    for (probability, right) in answers {
        // Bin i holds what is above i / 15, up to (i + 1) / 15.
        let bin = ((f64::from(probability) * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        all += 1;
        bins[bin].0 += f64::from(probability);
        bins[bin].1 += f64::from(u8::from(right));
    }
    bins.iter().map(|(sure, right)| (right - sure).abs()).sum::<f64>() / all.max(1) as f64
}

/// −ln of the probability of the true class, in f64. NaN where a score is NaN or +∞.
pub fn cross_entropy(scores: &[f32], label: usize) -> f64 {
    let (_, sum) = exponentials(scores);
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match sum.is_finite() {
        true => ln(sum) + f64::from(highest) - f64::from(scores[label]),
        false => f64::NAN,
    }
}

/// Where the true class comes in the order of the scores, 0 = first. Of equal scores the class with the smaller number
/// comes first; NaN comes last, so that a broken network is never counted right.
pub fn rank(scores: &[f32], label: usize) -> usize {
    let Some(own) = scores.get(label).filter(|own| !own.is_nan()) else { return scores.len() };
    let ahead = |(class, score): (usize, &f32)| score > own || (score == own && class < label);
    scores.iter().enumerate().filter(|pair| ahead(*pair)).count()
}

/// The `k` classes with the highest scores, best first.
pub fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    // NaN last, equal scores by class number: the order of `rank`.
    classes.sort_by(|a, b| match (scores[*a].is_nan(), scores[*b].is_nan()) {
        (false, false) => scores[*b].partial_cmp(&scores[*a]).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    });
    classes.truncate(k);
    classes
}

/// Wilson's 95 % interval of a fraction: `correct` of `n`, as (low, high). Unlike the normal one it stays inside [0, 1]
/// and means something near 100 % (E. B. Wilson, 1927).
pub fn wilson(correct: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_963_984_540_054; // the normal distribution's 97.5 % point
    let (n, p) = (n as f64, correct as f64 / n as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}

/// How often each class was taken for each: rows are true classes, columns predictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// Without any picture yet.
    pub fn new(classes: usize) -> Confusion {
        Confusion { classes, counts: vec![0; classes * classes] }
    }
    /// Counts one picture; both numbers are below the number of classes.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.classes + predicted] += 1;
    }
    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }
    /// How many pictures of the class `truth` were taken for `predicted`.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * self.classes + predicted]
    }
    /// How many pictures are of the class.
    pub fn truths(&self, class: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(class, predicted)).sum()
    }
    /// How many pictures were taken for the class.
    pub fn predictions(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }
    /// Of the pictures taken for the class, the fraction that is of it; none if there are no such pictures.
    pub fn precision(&self, class: usize) -> Option<f64> {
        fraction(self.count(class, class), self.predictions(class))
    }
    /// Of the pictures of the class, the fraction that was found; none if there are no such pictures.
    pub fn recall(&self, class: usize) -> Option<f64> {
        fraction(self.count(class, class), self.truths(class))
    }
    /// 2 · right / (pictures of the class + pictures taken for it), the harmonic mean of precision and recall; none for a
    /// class that neither occurs nor is predicted.
    pub fn f1(&self, class: usize) -> Option<f64> {
        fraction(2 * self.count(class, class), self.truths(class) + self.predictions(class))
    }
    /// The mean of F1 over the classes that occur or are predicted, each counting the same.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = (0..self.classes).filter_map(|class| self.f1(class)).collect();
        scores.iter().sum::<f64>() / scores.len().max(1) as f64
    }
    /// The fraction of pictures on the diagonal.
    pub fn accuracy(&self) -> f64 {
        let right = (0..self.classes).map(|class| self.count(class, class)).sum();
        fraction(right, self.counts.iter().sum()).unwrap_or(0.0)
    }
    /// The most frequent mistakes as (truth, predicted, count), most frequent first.
    pub fn worst(&self, most: usize) -> Vec<(usize, usize, u64)> {
        let pairs = (0..self.classes).flat_map(|truth| (0..self.classes).map(move |predicted| (truth, predicted)));
        let mut mistakes: Vec<_> = pairs
            .filter(|(truth, predicted)| truth != predicted)
            .map(|(truth, predicted)| (truth, predicted, self.count(truth, predicted)))
            .filter(|(_, _, count)| *count > 0)
            .collect();
        mistakes.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        mistakes.truncate(most);
        mistakes
    }
}

/// The probability of a score by itself: 1 / (1 + e^−score). NaN where it is NaN.
pub fn sigmoid(score: f32) -> f32 {
    let small = exp_f64(-f64::from(score).abs());
    (if score >= 0.0 { 1.0 } else { small } / (1.0 + small)) as f32
}

/// The mean over the classes of −ln of the probability of what is so: that a picture has a class, or has it not.
pub fn binary_cross_entropy(scores: &[f32], truths: &[f32]) -> f64 {
    let cost = |(score, truth): (&f32, &f32)| {
        let (x, truth) = (f64::from(*score), f64::from(*truth));
        x.max(0.0) - x * truth + ln(1.0 + exp_f64(-x.abs()))
    };
    scores.iter().zip(truths).map(cost).sum::<f64>() / scores.len().max(1) as f64
}

/// How pictures of any number of classes each are answered. A class is answered where its score is 0 or more: its
/// probability is a half then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MultiLabel {
    /// Of each class the score of every picture, and whether it has the class.
    scores: Vec<Vec<(f32, bool)>>,
}

impl MultiLabel {
    /// Without any picture yet.
    pub fn new(classes: usize) -> MultiLabel {
        MultiLabel { scores: vec![Vec::new(); classes] }
    }
    /// Takes in a picture; hands back whether all its classes, and no others, are answered.
    pub fn add(&mut self, scores: &[f32], truths: &[f32]) -> bool {
        let pairs = || scores.iter().zip(truths).map(|(score, truth)| (*score, *truth > 0.5));
        self.scores.iter_mut().zip(pairs()).for_each(|(all, pair)| all.push(pair));
        pairs().all(|(score, truth)| (score >= 0.0) == truth)
    }
    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.scores.len()
    }
    /// Pictures for which the class is right, is answered, is the truth.
    fn counts(&self, class: usize) -> [u64; 3] {
        self.scores[class].iter().fold([0; 3], |[right, answers, truths], &(score, truth)| {
            let answer = score >= 0.0;
            [right + u64::from(answer && truth), answers + u64::from(answer), truths + u64::from(truth)]
        })
    }
    /// How many pictures have the class.
    pub fn truths(&self, class: usize) -> u64 {
        self.counts(class)[2]
    }
    /// Of the pictures for which the class is answered, the fraction that has it; none if there are no such pictures.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let [right, answers, _] = self.counts(class);
        fraction(right, answers)
    }
    /// Of the pictures that have the class, the fraction that was found; none if there are no such pictures.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let [right, _, truths] = self.counts(class);
        fraction(right, truths)
    }
    /// The harmonic mean of precision and recall; none for a class that neither occurs nor is answered.
    pub fn f1(&self, class: usize) -> Option<f64> {
        let [right, answers, truths] = self.counts(class);
        fraction(2 * right, answers + truths)
    }
    /// F1 of all answers together, whatever their class.
    pub fn micro_f1(&self) -> f64 {
        let all = (0..self.classes()).map(|class| self.counts(class));
        let [right, answers, truths] = all.fold([0; 3], |sum, one| [0, 1, 2].map(|i| sum[i] + one[i]));
        fraction(2 * right, answers + truths).unwrap_or(0.0)
    }
    /// The mean of F1 over the classes that occur or are answered.
    pub fn macro_f1(&self) -> f64 {
        mean((0..self.classes()).filter_map(|class| self.f1(class)))
    }
    /// The class's average precision: the pictures in the order of its scores, the mean over those that have it of the
    /// precision down to there, equal scores together (scikit-learn's); none if no picture has it. NaN comes last.
    pub fn average_precision(&self, class: usize) -> Option<f64> {
        let mut pairs: Vec<(f32, bool)> =
            self.scores[class].iter().map(|&(score, truth)| (worth(score), truth)).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut seen, mut found, mut sum) = (0, 0, 0.0);
        for equal in pairs.chunk_by(|a, b| a.0 == b.0) {
            let more = equal.iter().filter(|(_, truth)| *truth).count();
            (seen, found) = (seen + equal.len(), found + more);
            sum += more as f64 * found as f64 / seen as f64;
        }
        (found > 0).then(|| sum / found as f64)
    }
    /// mAP: the mean of the average precision over the classes that occur.
    pub fn mean_average_precision(&self) -> f64 {
        mean((0..self.classes()).filter_map(|class| self.average_precision(class)))
    }
}

/// A score to sort by: NaN is worth least.
fn worth(score: f32) -> f32 {
    if score.is_nan() { f32::NEG_INFINITY } else { score }
}

fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = numbers.fold((0, 0.0), |(count, sum), number| (count + 1, sum + number));
    sum / f64::from(count.max(1))
}

fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Mean squared and mean absolute error over all values.
pub fn regression_errors(predicted: &[f32], targets: &[f32]) -> (f64, f64) {
    let n = predicted.len().max(1) as f64;
    let differences = || predicted.iter().zip(targets).map(|(p, t)| f64::from(*p) - f64::from(*t));
    (differences().map(|d| d * d).sum::<f64>() / n, differences().map(f64::abs).sum::<f64>() / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_the_top_agree() {
        let scores = [0.1, 0.7, 0.1, f32::NAN, 0.9];
        assert_eq!(top(&scores, 9), [4, 1, 0, 2, 3]);
        for (place, class) in top(&scores, 4).into_iter().enumerate() {
            assert_eq!(rank(&scores, class), place);
        }
        assert_eq!(rank(&scores, 3), 5, "NaN is never right");
        assert_eq!(rank(&[f32::NAN; 3], 0), 3);
        assert_eq!(top(&scores, 2), [4, 1]);
    }

    #[test]
    fn probabilities_and_cross_entropy() {
        let scores = [1.0f32, 2.0, 3.0];
        let sum = 1f64.exp() + 2f64.exp() + 3f64.exp();
        for (i, p) in softmax(&scores).into_iter().enumerate() {
            assert!((f64::from(p) - f64::from(scores[i]).exp() / sum).abs() < 1e-7);
            assert!((cross_entropy(&scores, i) - (sum.ln() - f64::from(scores[i]))).abs() < 1e-14);
        }
        assert_eq!(softmax(&[1e30, -1e30]), [1.0, 0.0]);
        assert_eq!((cross_entropy(&[1e4, 0.0], 0), cross_entropy(&[1e4, 0.0], 1)), (0.0, 1e4));
        for broken in [f32::NAN, f32::INFINITY] {
            assert!(cross_entropy(&[0.0, broken], 0).is_nan() && softmax(&[0.0, broken])[1].is_nan());
        }
    }

    #[test]
    fn the_mean_of_softmax_outputs_by_hand() {
        // Softmax of (ln 3, 0) is (3/4, 1/4), of (0, 0) a half each: their mean is 5/8 and 3/8.
        let (a, b): (&[f32], &[f32]) = (&[3f32.ln(), 0.0], &[7.0, 7.0]);
        let mean = softmax(&log_mean_softmax(&[a, b]));
        assert!((mean[0] - 0.625).abs() < 1e-6 && (mean[1] - 0.375).abs() < 1e-6, "{mean:?}");
        let same = log_mean_softmax(&[a, a, a]);
        assert!(softmax(&same).iter().zip(softmax(a)).all(|(x, y)| (x - y).abs() < 1e-7));
        assert_eq!(log_mean_softmax(&[&[1e30, -1e30], &[1e30, -1e30]])[1], f64::MIN_POSITIVE.ln() as f32);
        assert!(log_mean_softmax(&[&[f32::NAN, 0.0]])[0].is_nan());
    }

    #[test]
    fn the_calibration_error_by_hand() {
        // 0.9 and 0.92 share a bin: mean 0.91, half of them right; 0.3 has one of its own, right.
        let answers = [(0.9, true), (0.92, false), (0.3, true)];
        let expected = (2.0 * (0.91 - 0.5) + (1.0 - 0.3)) / 3.0;
        assert!((calibration_error(answers) - expected).abs() < 1e-6, "{}", calibration_error(answers));
        // On both sides of 1/15 = 0.0667, so that their errors don't cancel.
        let apart = (0.07 + (1.0 - 0.06)) / 2.0;
        assert!((calibration_error([(0.07, false), (0.06, true)]) - apart).abs() < 1e-6);
        assert_eq!(calibration_error([(1.0, true)]), 0.0);
        assert_eq!(calibration_error([]), 0.0);
    }

    #[test]
    fn wilson_intervals() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // The ends are where the observed fraction lies 1.96 standard errors of the true one away from it.
        for (correct, n) in [(5, 10), (1970, 2000), (1, 7), (0, 9), (10, 10)] {
            let (low, high) = wilson(correct, n);
            let observed = correct as f64 / n as f64;
            for end in [low, high].into_iter().filter(|end| (end - observed).abs() > 1e-9) {
                close((end - observed).abs(), 1.959_963_984_540_054 * (end * (1.0 - end) / n as f64).sqrt());
            }
            assert!(0.0 <= low && low < high && high <= 1.0);
        }
        let (low, high) = wilson(5, 10);
        assert_eq!((format!("{low:.4}"), format!("{high:.4}")), ("0.2366".into(), "0.7634".into()));
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn confusion_of_three_classes() {
        // truth 0: 3 right, 1 taken for 1; truth 1: 2 right; class 2 never occurs, but is predicted once for a 1.
        let mut confusion = Confusion::new(3);
        for (truth, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 2)] {
            confusion.add(truth, predicted);
        }
        assert_eq!(confusion.precision(1), Some(2.0 / 3.0));
        assert_eq!(confusion.recall(0), Some(0.75));
        assert_eq!((confusion.recall(2), confusion.precision(2)), (None, Some(0.0)));
        assert_eq!(confusion.f1(0), Some(6.0 / 7.0));
        assert!((confusion.macro_f1() - (6.0 / 7.0 + 4.0 / 6.0 + 0.0) / 3.0).abs() < 1e-15);
        assert_eq!(confusion.accuracy(), 5.0 / 7.0);
        assert_eq!(confusion.worst(1), [(0, 1, 1)]);
    }

    #[test]
    fn several_classes_a_picture_by_hand() {
        let mut judged = MultiLabel::new(3);
        // Class 0: scores 3 1 1 -2, truths 1 0 1 1; class 1 is never there and once answered; class 2 is neither.
        let rows = [[3.0, -1.0, -9.0], [1.0, 2.0, -9.0], [1.0, -1.0, -9.0], [-2.0, -1.0, -9.0]];
        let right: Vec<bool> = rows
            .iter()
            .zip([1.0, 0.0, 1.0, 1.0])
            .map(|(scores, truth)| judged.add(scores, &[truth, 0.0, 0.0]))
            .collect();
        assert_eq!(right, [true, false, true, false]);
        assert_eq!((judged.precision(0), judged.recall(0), judged.truths(0)), (Some(2.0 / 3.0), Some(2.0 / 3.0), 3));
        assert_eq!(
            (judged.precision(1), judged.recall(1), judged.f1(1), judged.f1(2)),
            (Some(0.0), None, Some(0.0), None)
        );
        assert!((judged.macro_f1() - 1.0 / 3.0).abs() < 1e-15 && judged.micro_f1() == 4.0 / 7.0);
        // Precision 1 at the first, 2/3 after the two equal ones, 3/4 at the last, a third of the class each.
        let expected = (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0;
        assert!((judged.average_precision(0).unwrap() - expected).abs() < 1e-15);
        assert_eq!(judged.average_precision(1), None);
        assert!((judged.mean_average_precision() - expected).abs() < 1e-15);
        judged.add(&[f32::NAN, 0.0, f32::NAN], &[1.0, 0.0, 0.0]);
        assert_eq!((judged.recall(0), MultiLabel::new(2).mean_average_precision()), (Some(0.5), 0.0));
    }

    #[test]
    fn probabilities_of_each_class_by_itself() {
        assert_eq!((sigmoid(0.0), sigmoid(1e30), sigmoid(-1e30)), (0.5, 1.0, 0.0));
        assert!((f64::from(sigmoid(-2.0)) - 1.0 / (1.0 + 2f64.exp())).abs() < 1e-7 && sigmoid(f32::NAN).is_nan());
        let expected = (-(0.75f64).ln() - (0.5f64).ln()) / 2.0;
        assert!((binary_cross_entropy(&[3f32.ln(), 0.0], &[1.0, 0.0]) - expected).abs() < 1e-7);
        assert_eq!(binary_cross_entropy(&[1e30, -200.0], &[1.0, 1.0]), 100.0);
        assert!(binary_cross_entropy(&[f32::NAN], &[0.0]).is_nan());
    }

    #[test]
    fn classes_that_never_occur_do_not_lower_macro_f1() {
        let mut confusion = Confusion::new(5);
        confusion.add(3, 3);
        assert_eq!((confusion.macro_f1(), confusion.accuracy()), (1.0, 1.0));
        assert_eq!((Confusion::new(2).macro_f1(), Confusion::new(2).accuracy()), (0.0, 0.0));
    }

    #[test]
    fn squared_and_absolute_errors() {
        assert_eq!(regression_errors(&[1.0, 4.0], &[2.0, 1.0]), (5.0, 2.0));
        assert_eq!(regression_errors(&[], &[]), (0.0, 0.0));
    }
}
