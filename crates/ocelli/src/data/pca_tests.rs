use super::super::augment::tests::golden;
use super::super::{OpenOptions, open};
use super::*;

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn components_are_numpys() {
    let golden = golden();
    let pixels: Vec<u8> = numbers(&golden["picture"]).into_iter().map(|value| value as u8).collect();
    let mut colours = Colours::default();
    colours.add(&pixels);
    let close = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-12, "{ours}, numpy {theirs}");
    colours.mean().into_iter().zip(numbers(&golden["mean"])).for_each(|(a, b)| close(a, b));
    let pca = colours.pca();
    for (i, (value, vector)) in pca.eigenvalues.iter().zip(&pca.eigenvectors).enumerate() {
        close(*value, numbers(&golden["eigenvalues"])[i]);
        let theirs = numbers(&golden["eigenvectors"][i]);
        let sign: f64 = vector.iter().zip(&theirs).map(|(a, b)| a * b).sum::<f64>().signum();
        vector.iter().zip(theirs).for_each(|(a, b)| close(*a, sign * b));
    }
}

#[test]
fn sums_do_not_depend_on_how_pixels_are_divided() {
    let pixels: Vec<u8> = (0..3000).map(|i| (i * i % 251) as u8).collect();
    let (mut whole, mut parts) = (Colours::default(), Colours::default());
    whole.add(&pixels);
    for part in pixels.chunks(33) {
        let mut one = Colours::default();
        one.add(part);
        parts.join(&one);
    }
    assert_eq!(whole, parts);
    assert_eq!(whole.pixels, 1000);
    let data = open("mnist-10k", &OpenOptions::default()).unwrap();
    let one = Colours::measure(&data, Split::Val, 1, false).unwrap();
    assert_eq!(one, Colours::measure(&data, Split::Val, 4, false).unwrap());
    // Grey pictures: one component, red, green and blue alike.
    let pca = one.pca();
    assert!(pca.eigenvectors[0].iter().all(|part| (part - 1.0 / 3f64.sqrt()).abs() < 1e-12), "{pca:?}");
    assert!(pca.eigenvalues[1] < 1e-15);
}

#[test]
fn one_colour_has_no_components_but_a_form() {
    let mut colours = Colours::default();
    colours.add(&[9, 9, 9, 9, 9, 9]);
    let pca = colours.pca();
    assert_eq!(pca.eigenvalues, [0.0; 3]);
    assert_eq!(Pca::parse(&pca.to_toml()).unwrap(), pca);
}

#[test]
fn files_that_hold_no_components_are_refused() {
    let good = Pca::IMAGENET.to_toml();
    assert_eq!(Pca::parse(&good).unwrap(), Pca::IMAGENET);
    for bad in ["", "eigenvalues = [1]", "x = 3", &good.replace("0.7192", "nan"), &good.replace("0.7192", "71.0")] {
        assert!(Pca::parse(bad).unwrap_err().to_string().contains("ocelli data pca"), "{bad}");
    }
}
