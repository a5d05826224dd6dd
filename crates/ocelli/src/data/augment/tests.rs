use super::super::{Batch, Mixed};
use super::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};

fn augment(text: &str) -> Augment {
    text.parse().unwrap()
}

fn key(sample: u64) -> Key {
    Key { seed: 1, epoch: 2, sample }
}

fn cut(text: &str, key: Key, canvas: [usize; 2], size: [usize; 2]) -> Cut {
    let mut cut = Cut::new(key, canvas, size);
    augment(text).choose(&mut cut);
    cut
}

/// The picture of tests/golden/augment.json, and what torchvision makes of it.
pub(crate) fn golden() -> serde_json::Value {
    let text = include_str!("../../../../../tests/golden/augment.json");
    serde_json::from_str(text).unwrap()
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect()
}

fn picture() -> Picture {
    let golden = golden();
    let side = |name: &str| golden[name].as_u64().unwrap() as usize;
    Picture { height: side("height"), width: side("width"), channels: 3, pixels: bytes(&golden["picture"]) }
}

fn numbers<'a>(values: &'a mut [f32], size: [usize; 2], std: &'a [f32]) -> Numbers<'a> {
    Numbers { values, size, std, pca: &Pca::IMAGENET }
}

#[test]
fn the_written_form_round_trips_and_slips_are_named() {
    for text in
        ["none", "flip", "crop:4", "flip,crop:0,shift:2", "resized-crop:0.25,jitter,erase,mixup:1", "pca,cutmix"]
    {
        assert_eq!(augment(text).to_string(), text);
    }
    assert_eq!(augment(" erase:0.25, jitter:0.4:0.4:0.4:0,flip").to_string(), "flip,jitter:0.4:0.4:0.4:0,erase");
    for kind in &KINDS {
        assert!(augment(&kind.form()).has(kind.name), "{}", kind.form());
        assert!(kind.values.len() <= MOST);
    }
    assert_eq!(KINDS.iter().map(|kind| kind.name).collect::<HashSet<_>>().len(), KINDS.len());
    let error = |text: &str| text.parse::<Augment>().unwrap_err().to_string();
    assert!(error("flop").contains("Did you mean 'flip'?"));
    assert!(error("crop").contains("crop:4"));
    assert!(error("erase:1.5").contains("share: a number from 0 to 1"));
    assert!(error("crop:4:2").contains("takes 1 number") && error("flip:3").contains("takes 0 numbers"));
    assert!(error("crop:4,resized-crop").contains("both crop and resized-crop"));
    for text in ["shift:many", "crop:1.5", "erase:NaN", "crop:-1", "jitter:", "", ","] {
        assert!(text.parse::<Augment>().is_err(), "{text}");
    }
    assert!(augment("mixup").check(3, Some("numbers to predict")).unwrap_err().what().contains("numbers to predict"));
    assert!(augment("pca").check(1, None).unwrap_err().what().contains("1 channel"));
}

#[test]
fn windows_reach_every_place_and_depend_on_seed_epoch_and_sample_only() {
    let window = |key| cut("flip,crop:1", key, [4, 4], [4, 4]).window;
    let mut seen = HashSet::new();
    for sample in 0..500 {
        let Window { top, left, flip } = window(key(sample));
        assert_eq!(window(key(sample)), Window { top, left, flip });
        assert!((-1..=1).contains(&top) && (-1..=1).contains(&left));
        seen.insert((top, left, flip));
    }
    assert_eq!(seen.len(), 3 * 3 * 2);
    let differ = |seed, epoch| (0..100).any(|sample| window(Key { seed, epoch, sample }) != window(key(sample)));
    assert!(differ(2, 2) && differ(1, 3) && !differ(1, 2));
}

#[test]
fn crops_of_24_lie_inside_28() {
    let tops: BTreeSet<isize> = (0..200).map(|i| cut("crop:0", key(i), [28, 28], [24, 24]).window.top).collect();
    assert_eq!(tops, (0..=4).collect());
}

#[test]
fn alternating_flips_show_each_side_once_in_two_epochs() {
    let flips = |epoch, sample| cut("alternating-flip", Key { seed: 3, epoch, sample }, [4, 4], [4, 4]).window.flip;
    for sample in 0..1000 {
        for epoch in 0..4 {
            assert_ne!(flips(epoch, sample), flips(epoch + 1, sample));
        }
    }
    let first = (0..1000).filter(|&sample| flips(0, sample)).count();
    assert!((440..560).contains(&first), "{first} of 1000 in the first epoch");
}

#[test]
fn resized_crops_have_the_area_and_shape_that_are_asked_for() {
    let mut areas = BTreeMap::new();
    for sample in 0..2000 {
        let [top, left, h, w] = cut("resized-crop:0.25", key(sample), [300, 400], [64, 64]).area;
        let (area, shape) = ((h * w) as f64 / 120_000.0, w as f64 / h as f64);
        assert!(top + h <= 300 && left + w <= 400);
        assert!((0.245..=1.0).contains(&area) && (0.74..1.35).contains(&shape), "{h} x {w}");
        *areas.entry((area * 10.0) as usize).or_insert(0) += 1;
    }
    assert!((2..=8).all(|tenth| areas[&tenth] > 100), "{areas:?}");
    for canvas in [[1, 1], [1, 1000], [1000, 1], [2, 7]] {
        let [top, left, h, w] = cut("resized-crop", key(0), canvas, [1, 1]).area;
        assert!(h > 0 && w > 0 && top + h <= canvas[0] && left + w <= canvas[1], "{canvas:?}");
    }
}

#[test]
fn changes_of_bytes_are_torchvisions() {
    let golden = golden();
    type Change = fn(&mut Picture);
    // How far values may lie apart: torchvision cuts fractions off, and turns hues in 8-bit steps of its own.
    let changes: [(&str, u8, Change); 8] = [
        ("brightness", 1, |p| pixels::brightness(p, 0.7)),
        ("contrast", 1, |p| pixels::contrast(p, 1.3)),
        ("saturation", 1, |p| pixels::saturation(p, 0.4)),
        ("hue", 1, |p| pixels::hue(p, 0.2)),
        ("hue back", 1, |p| pixels::hue(p, -0.35)),
        ("gray", 1, |p| pixels::saturation(p, 0.0)),
        ("rotate", 1, |p| pixels::turn(p, 17.0)),
        ("blur", 1, |p| pixels::gaussian(p, 0.8)),
    ];
    for (name, most, change) in changes.into_iter().chain(randaugment::tests::changes()) {
        let mut picture = picture();
        change(&mut picture);
        let row = picture.width * 3;
        // Blurred borders differ: here the last pixel goes on, there pictures are mirrored.
        let border = if name == "blur" { 3 } else { 0 };
        for (i, (ours, theirs)) in picture.pixels.iter().zip(bytes(&golden["made"][name])).enumerate() {
            let (y, x) = (i / row, i % row / 3);
            let inside = |at: usize, side: usize| at >= border && at + border < side;
            let compared = inside(y, picture.height) && inside(x, picture.width);
            assert!(!compared || ours.abs_diff(theirs) <= most, "{name}, row {y}, column {x}: {ours}, {theirs}");
        }
    }
}

#[test]
fn a_strength_of_0_changes_nothing() {
    let original = picture();
    for text in ["jitter:0:0:0:0", "rotate:0", "gray:0", "blur:0", "randaugment:3:0"] {
        for sample in 0..20 {
            let mut picture = original.clone();
            for (kind, values) in augment(text).steps() {
                let Does::Pixels(change) = kind.does else { panic!("{text}") };
                change(&mut picture, values, &mut key(sample).random(kind.name));
            }
            // At magnitude 0 the histogram's two changes remain.
            assert!(picture == original || text.starts_with("rand"), "{text}");
        }
    }
    let mut values = vec![1.5; 3 * 16];
    numbers::pca(&mut numbers(&mut values, [4, 4], &[0.2; 3]), &[0.0], &mut key(0).random("pca"));
    numbers::erase(&mut numbers(&mut values, [4, 4], &[0.2; 3]), &[0.0], &mut key(0).random("erase"));
    numbers::cutout(&mut numbers(&mut values, [4, 4], &[0.2; 3]), &[0.0], &mut key(0).random("cutout"));
    assert_eq!(values, vec![1.5; 3 * 16]);
}

#[test]
fn a_quarter_turn_moves_every_pixel_counterclockwise() {
    let mut square = Picture { height: 3, width: 3, channels: 1, pixels: (1..=9).collect() };
    pixels::turn(&mut square, 90.0);
    assert_eq!(square.pixels, [3, 6, 9, 2, 5, 8, 1, 4, 7]);
}

#[test]
fn erased_rectangles_are_2_to_33_percent_of_a_share_of_the_pictures() {
    let (size, mut erased) = ([40, 50], 0);
    for sample in 0..2000 {
        let mut values = vec![1.0; 2 * 2000];
        numbers::erase(&mut numbers(&mut values, size, &[1.0; 2]), &[0.3], &mut key(sample).random("erase"));
        let holes: Vec<usize> = (0..2000).filter(|&i| values[i] == 0.0).collect();
        assert!(holes.iter().all(|&i| values[2000 + i] == 0.0), "the same place in every channel");
        if let (Some(first), Some(last)) = (holes.first(), holes.last()) {
            let sides = [last / 50 - first / 50 + 1, last % 50 - first % 50 + 1];
            assert_eq!(holes.len(), sides[0] * sides[1], "a rectangle");
            // Sides are rounded to whole pixels.
            assert!((0.015..0.35).contains(&(holes.len() as f64 / 2000.0)), "{sides:?}");
            erased += 1;
        }
    }
    assert!((500..700).contains(&erased), "{erased} of 2000");
}

#[test]
fn a_cutout_is_a_square_that_may_hang_over_the_border() {
    let mut sizes = BTreeSet::new();
    for sample in 0..500 {
        let mut values = vec![1.0; 100];
        numbers::cutout(&mut numbers(&mut values, [10, 10], &[1.0]), &[4.0], &mut key(sample).random("cutout"));
        sizes.insert(values.iter().filter(|&&value| value == 0.0).count());
    }
    assert_eq!((sizes.first(), sizes.last()), (Some(&4), Some(&16)));
    assert!(sizes.contains(&8) && sizes.contains(&12));
}

#[test]
fn colour_noise_has_the_deviations_of_both_conventions() {
    let std = [0.5, 0.25, 0.125];
    let along = |text: &str, component: usize| {
        let draws = 4000;
        let squares = (0..draws).map(|sample| {
            let mut values = vec![0.0; 3];
            let mut numbers = numbers(&mut values, [1, 1], &std);
            for (kind, values) in augment(text).steps() {
                let Does::Numbers(change) = kind.does else { panic!() };
                change(&mut numbers, values, &mut key(sample).random(kind.name));
            }
            let vector = Pca::IMAGENET.eigenvectors[component];
            let part: f64 = (0..3).map(|c| f64::from(values[c] * std[c]) * vector[c]).sum();
            part * part
        });
        (squares.sum::<f64>() / f64::from(draws as u32)).sqrt()
    };
    for component in 0..3 {
        let eigenvalue = Pca::IMAGENET.eigenvalues[component];
        let (author, paper) = (along("pca", component), along("pca-paper", component));
        // The components in use are rounded to four places: to be at right angles to 0.002.
        assert!((author * 1.1 / (0.1 * eigenvalue.sqrt()) - 1.0).abs() < 0.06, "{component}: {author}");
        assert!((paper / (0.1 * eigenvalue) - 1.0).abs() < 0.06, "{component}: {paper}");
    }
    // 12.2 grey levels along the first component against 5.8: see docs/augmentation.md.
    assert!((255.0 * along("pca", 0) * 1.1 - 12.18).abs() < 0.4);
    assert!((255.0 * along("pca-paper", 0) - 5.82).abs() < 0.2);
}

fn pairs(text: &str, n: usize) -> Batch {
    let images = (0..n).flat_map(|i| vec![i as f32; 2 * 30]).collect();
    let (labels, indices) = ((0..n as u32).collect(), (0..n).collect());
    let mut batch = Batch { n, images, labels, indices, ..Batch::default() };
    augment(text).mix(&mut batch, [5, 6], |position| key(position as u64));
    batch
}

#[test]
fn mixed_pictures_have_the_shares_of_their_classes() {
    for text in ["mixup:1", "cutmix", "mixup,cutmix"] {
        let batch = pairs(text, 401);
        for i in 0..400 {
            let (own, other) = (i as f32, (i ^ 1) as f32);
            let Mixed { label, share } = batch.mixed[i];
            assert!((0.0..=0.5).contains(&share), "the larger share comes first");
            let mut both = [batch.labels[i], label];
            both.sort_unstable();
            assert_eq!(both, [i as u32 & !1, i as u32 | 1], "shares of both classes sum to one");
            // The pixels' mean is that of the classes' numbers, which the pictures are filled with.
            let pixels = batch.images[i * 60..][..60].iter().sum::<f32>() / 60.0;
            let classes = batch.labels[i] as f32 * (1.0 - share) + label as f32 * share;
            assert!((pixels - classes).abs() < 1e-3, "{text}, {i}: {pixels}, {classes}");
            assert!(pixels >= own.min(other) - 1e-3 && pixels <= own.max(other) + 1e-3);
        }
        assert_eq!(batch.mixed[400].share, 0.0, "the odd one stays");
        assert_eq!(batch.images[400 * 60..], vec![400.0; 60]);
        // Micro-batches of an even size give the same.
        assert_eq!(pairs(text, 100).images, batch.images[..6000]);
    }
    assert!(pairs("flip", 4).mixed.is_empty());
}

#[test]
fn shares_are_of_the_beta_distribution() {
    for alpha in [0.1, 0.2, 1.0, 5.0] {
        let draws: Vec<f64> = (0..20_000).map(|i| mix::beta(alpha, &mut key(i).random("mix"))).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.02, "alpha {alpha}: {mean}");
        assert!((variance * 4.0 * (2.0 * alpha + 1.0) - 1.0).abs() < 0.04, "alpha {alpha}: {variance}");
        assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
    }
}

#[test]
fn any_picture_survives_any_change() {
    let every =
        "flip,resized-crop,shift:3,rotate:180,randaugment:14:30,jitter:1:1:1:0.5,gray:0.5,blur:1:20,erase:1,cutout:9";
    for (height, width, channels) in [(1, 1, 3), (1, 40, 1), (40, 1, 3), (2, 3, 3), (37, 23, 1)] {
        for sample in 0..8 {
            let key = key(sample);
            let pixels = (0..height * width * channels).map(|i| (i * 89) as u8).collect();
            let mut cut = Cut::new(key, [height, width], [height, width]);
            augment(every).choose(&mut cut);
            let mut picture = cut.scaled(Picture { height, width, channels, pixels }).unwrap();
            let mut values = vec![1.0; height * width * channels];
            let std = vec![0.3; channels];
            for (kind, given) in augment(every).steps() {
                let mut random = key.random(kind.name);
                match kind.does {
                    Does::Pixels(change) => change(&mut picture, given, &mut random),
                    Does::Numbers(change) => {
                        change(&mut numbers(&mut values, [height, width], &std), given, &mut random);
                    }
                    _ => {}
                }
            }
            assert_eq!(picture.pixels.len(), height * width * channels);
        }
    }
}

#[test]
fn every_kind_is_on_the_page_with_a_picture() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("augmentation.md")).unwrap();
    for kind in &KINDS {
        let picture = format!("images/augment-{}.png", kind.name);
        assert!(page.contains(&format!("![{}]({picture})", kind.name)), "{}", kind.name);
        assert!(docs.join(&picture).is_file(), "{picture}");
        let form = match kind.values {
            [Value { default: None, .. }] => format!("`{}:{}`", kind.name, kind.values[0].name[..1].to_uppercase()),
            _ => format!("`{}`", kind.form()),
        };
        assert!(page.contains(&form), "{form}");
    }
}
