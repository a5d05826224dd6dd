//! Looking inside a trained model: predict, val, explain, runs, bench.

mod common;
use common::{bad, good, json, ocelli};
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A folder with a run of LeNet-5 on the digits, `runs/digits`, and the digits to predict on.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        std::fs::create_dir(folder.path().join("samples")).unwrap();
        for entry in std::fs::read_dir(samples).unwrap().flatten() {
            std::fs::copy(entry.path(), folder.path().join("samples").join(entry.file_name())).unwrap();
        }
        good(folder.path(), &["train", "--epochs", "2", "--output", "runs/digits", "--quiet"]);
        folder
    });
    folder.path()
}

#[test]
fn predict_names_the_digits_and_marks_what_it_cannot_know() {
    let ran =
        ocelli(trained(), &["predict", "runs/digits", "samples", "--save-input", "seen", "--output", "answers.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("image "), "{}", ran.stdout);
    assert!(ran.stdout.contains("closest of 10"), "not presented as certainty: {}", ran.stdout);
    assert!(
        ran.stderr.contains("1 of 11 pictures is dark on light") && ran.stderr.contains("--invert"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("knows 10 classes and names the closest"), "{}", ran.stderr);
    let table = std::fs::read_to_string(trained().join("answers.csv")).unwrap();
    assert_eq!(table.lines().count(), 12);
    let right = (0..10).filter(|digit| table.contains(&format!("samples/digit-{digit}.png,{digit},"))).count();
    assert!(right >= 8, "two epochs name most digits: {table}");
    assert_eq!(std::fs::read_dir(trained().join("seen")).unwrap().count(), 11, "what the network saw");
    assert_eq!(
        table.lines().next(),
        Some("image,class_1,probability_1,class_2,probability_2,class_3,probability_3,note")
    );
    let first: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    // The text: the parser of these tests rounds some numbers' last digit otherwise.
    let told = good(trained(), &["predict", "runs/digits", "samples/digit-0.png", "--json"]);
    let top = format!("\"top\":[{{\"class\":\"{}\",\"probability\":{}}},", first[1], first[2]);
    assert!(told.contains(&top), "{top} in {told}");
}

#[test]
fn save_input_shows_what_the_network_sees() {
    let folder = trained().join("mixed");
    std::fs::create_dir_all(&folder).unwrap();
    let digit = image::open(trained().join("samples/digit-4.png")).unwrap().to_luma8();
    digit.save(folder.join("4.png")).unwrap();
    // The same in colour, twice as large, under the same name with another ending: both pictures are kept.
    let large = image::RgbImage::from_fn(56, 56, |x, y| image::Rgb([digit.get_pixel(x / 2, y / 2).0[0]; 3]));
    large.save(folder.join("4.bmp")).unwrap();
    let seen = |name: &str| image::open(trained().join("seen-4").join(name)).unwrap().to_luma8();
    good(trained(), &["predict", "runs/digits", "mixed", "--save-input", "seen-4"]);
    assert_eq!(seen("mixed-4.png"), digit, "a picture of the network's size is not changed");
    assert_eq!(seen("mixed-4.bmp.png").dimensions(), (28, 28));
    let far = seen("mixed-4.bmp.png").iter().zip(digit.iter()).filter(|(a, b)| a.abs_diff(**b) > 96).count();
    assert!(far < 20, "made smaller it is the same digit: {far} of 784 pixels are far off");
    good(trained(), &["predict", "runs/digits", "mixed/4.png", "--invert", "--save-input", "seen-4"]);
    assert!(seen("mixed-4.png").iter().zip(digit.iter()).all(|(a, b)| *a == 255 - b), "--invert is seen as well");
}

#[test]
fn the_negative_of_a_dark_digit_is_read() {
    let one = |extra: &[&str]| {
        let arguments =
            [&["predict", "runs/digits", "samples/digit-3-dark-on-light.png", "--json", "--quiet"], extra].concat();
        json(&good(trained(), &arguments)).remove(0)
    };
    assert_eq!(one(&[])["note"], "dark on light");
    let inverted = one(&["--invert", "--topk", "2"]);
    assert_eq!((inverted["top"][0]["class"].as_str(), inverted["note"].as_str()), (Some("3"), Some("")));
    assert_eq!(inverted["top"].as_array().unwrap().len(), 2);
}

#[test]
fn pictures_that_cannot_be_read_are_named_and_the_others_predicted() {
    std::fs::write(trained().join("text.jpg"), "not a picture").unwrap();
    let ran = ocelli(trained(), &["predict", "runs/digits", "samples/digit-7.png", "text.jpg"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.contains("samples/digit-7.png") && ran.stderr.contains("text.jpg"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let ran = ocelli(trained(), &["predict", "runs/digits", "text.jpg", "none.png", "samples/digit-7.png"]);
    for part in ["not read: text.jpg: ", "not read: none.png: ", "error: 2 of 3 pictures cannot be read"] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    let ran = ocelli(trained(), &["predict", "runs/digits", "none.png"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "no table of nothing");
    let ran = ocelli(trained(), &["predict", "runs/digits", "samples/digit-7.png", "--invert"]);
    assert!(ran.stderr.contains("1 of 1 pictures is dark on light after --invert"), "{}", ran.stderr);
    std::fs::create_dir_all(trained().join("empty")).unwrap();
    assert!(bad(trained(), 1, &["predict", "runs/digits", "empty"]).0.contains("no pictures"));
}

#[test]
fn val_tells_how_good_the_model_is() {
    let arguments = ["val", "latest", "--predictions", "every.csv", "--mistakes", "worst.png"];
    let text = good(trained(), &arguments);
    for part in
        ["of 2,000 held-out pictures (test)", "95 % interval", "top-5", "precision %", "macro F1", "true \\ answer"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(std::fs::read_to_string(trained().join("every.csv")).unwrap().lines().count(), 2001);
    assert!(std::fs::read(trained().join("worst.png")).unwrap().starts_with(b"\x89PNG"));
    let value = &json(&good(trained(), &["eval", "latest", "--json", "--split", "val"]))[0];
    assert_eq!((&value["schema"], &value["images"], &value["split"]), (&1.into(), &1000.into(), &"val".into()));
    let (top1, top5) = (value["top1"].as_f64().unwrap(), value["top5"].as_f64().unwrap());
    assert!(top1 > 0.8 && top1 <= top5 && top5 <= 1.0);
    let rows = value["confusion"].as_array().unwrap();
    let right: u64 = rows.iter().enumerate().map(|(i, row)| row[i].as_u64().unwrap()).sum();
    assert_eq!(right as f64 / 1000.0, top1);
}

#[test]
fn explain_writes_pictures_of_filters_maps_fields_and_shifts() {
    let files = |method: &str, more: &[&str]| -> Vec<String> {
        let arguments = [
            &["explain", "runs/digits", "samples/digit-7.png", "--method", method, "--output", method, "--json"],
            more,
        ];
        let value = json(&good(trained(), &arguments.concat())).remove(0);
        value["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(files("filters", &[]).len(), 3, "two convolutions and the linear layer that reads maps");
    assert_eq!(files("maps", &[]).len(), 11, "every layer");
    assert_eq!(files("maps", &["--layer", "conv2"]), ["maps/maps-conv2.png"]);
    assert_eq!(files("receptive-field", &["--unit", "0,0"]).len(), 6);
    for file in ["filters/filters-conv1.png", "maps/maps-conv2.png", "receptive-field/receptive-field-conv2.png"] {
        assert!(std::fs::read(trained().join(file)).unwrap().starts_with(b"\x89PNG"), "{file}");
    }
    assert_eq!(files("shift", &[]).len(), 2);
    let table = std::fs::read_to_string(trained().join("shift/shift.csv")).unwrap();
    assert!(table.contains("\nmax_pool1,max_pool,") && table.contains("\npooling_layer,direction,shift"), "{table}");
    let field = good(
        trained(),
        &["explain", "latest", "samples/digit-7.png", "--method", "receptive-field", "--layer", "conv2"],
    );
    assert!(field.contains("sees 14x14 pixels, rows 8 to 21, columns 8 to 21"), "{field}");
}

/// Values of every layer type, in the middle and at the edge, are the sums that are written out.
#[test]
fn traces_agree_with_the_engine() {
    for place in [
        "conv1,0,0,0",
        "conv1,5,27,27",
        "conv1,3,14,9",
        "max_pool1,2,3,4",
        "conv2,0,0,0",
        "conv2,15,9,9",
        "conv2,7,4,6",
        "max_pool2,9,4,4",
        "fc1,0",
        "fc2,83",
        "fc3,7",
    ] {
        let value =
            json(&good(trained(), &["explain", "latest", "samples/digit-7.png", "--trace", place, "--json"])).remove(0);
        assert_eq!(value["agrees"], true, "{place}");
    }
    let text = good(trained(), &["explain", "latest", "samples/digit-7.png", "--trace", "conv2,3,4,4"]);
    assert!(text.contains("sum of 150 products") && text.contains(": agrees (difference "), "{text}");
}

#[test]
fn mistakes_name_what_there_is() {
    let picture = "samples/digit-7.png";
    for (arguments, code, what, advice) in [
        (
            vec!["explain", "latest", picture, "--trace", "conv3,0,0,0"],
            2,
            "no layer called 'conv3'",
            "conv1, max_pool1, conv2",
        ),
        (vec!["explain", "latest", picture, "--trace", "conv1,6,0,0"], 2, "channels 0 to 5", "--trace conv1,0,0,0"),
        (vec!["explain", "latest", picture, "--trace", "relu1,0,0,0"], 2, "relu1 does not have", "conv1"),
        (
            vec!["explain", "latest", picture, "--trace", "conv1"],
            2,
            "--trace 'conv1' is not possible",
            "LAYER,CHANNEL,ROW,COLUMN",
        ),
        (vec!["explain", "latest", "--method", "maps"], 2, "a picture is needed", "MODEL IMAGE"),
        (vec!["explain", "latest", picture], 2, "--method is missing", "--help"),
        (vec!["explain", "latest", picture, "--method", "map"], 2, "--method: 'map' is not possible", "maps"),
        (vec!["explain", "latest", picture, "--method", "shift", "--class", "x"], 2, "no class 'x'", "0, 1, 2"),
        (vec!["predict", "runs/none", picture], 1, "runs/none", "runs"),
        (vec!["val", "runs/digits", "--data", "mnist-11k"], 2, "mnist-11k", "mnist-10k"),
        (vec!["val", "runs/digits", "--split", "tset"], 2, "tset", "test"),
    ] {
        let (first, second) = bad(trained(), code, &arguments);
        assert!(first.contains(what) && second.contains(advice), "{arguments:?}\n{first}\n{second}");
    }
}

#[test]
fn val_judges_all_pictures_of_other_data_without_splits() {
    let here = trained();
    for digit in ["0", "1", "7"] {
        std::fs::create_dir_all(here.join("few").join(digit)).unwrap();
        let name = format!("digit-{digit}.png");
        std::fs::copy(here.join("samples").join(&name), here.join("few").join(digit).join(name)).unwrap();
    }
    let value = &json(&good(here, &["val", "latest", "--data", "few", "--json"]))[0];
    assert_eq!((&value["images"], &value["split"]), (&3.into(), &"test".into()));
    assert_eq!(value["classes"].as_array().unwrap().len(), 10, "the model's classes, matched by name");
    let ran = ocelli(here, &["val", "latest", "--data", "few"]);
    assert!(ran.stdout.contains("% of 3 pictures (test)"), "{}", ran.stdout);
    assert!(ran.stderr.contains("all of it is judged, 3 pictures"), "{}", ran.stderr);
    std::fs::write(here.join("few.csv"), "path,label\nsamples/digit-3.png,3\n").unwrap();
    assert_eq!(json(&good(here, &["val", "latest", "--data", "few.csv", "--json"]))[0]["images"], 1);
    assert!(good(here, &["val", "latest", "--data", "few.csv"]).contains("% of 1 picture (test): "));
    let (what, advice) = bad(here, 1, &["val", "latest", "--data", "few", "--split", "val"]);
    assert!(what.contains("few: the val split has no pictures") && advice.contains("data info"), "{what} {advice}");
}

#[test]
fn the_runs_own_pictures_keep_their_splits_by_whatever_path() {
    let world = tempfile::tempdir().unwrap();
    common::pictures::folder(world.path(), &["dark", "light"], 10);
    good(
        world.path(),
        &["train", "--data", "data", "--epochs", "1", "--batch-size", "8", "--seed", "3", "--output", "run", "--quiet"],
    );
    let own = good(world.path(), &["val", "run", "--json", "--predictions", "own.csv"]);
    assert_eq!(json(&own)[0]["images"], 2, "a tenth of each class is held out");
    for path in ["data", "./data/", "run/../data"] {
        let value = &json(&good(world.path(), &["val", "run", "--data", path, "--json", "--predictions", "p.csv"]))[0];
        assert_eq!(value["images"], 2, "{path}");
        let read = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
        assert_eq!(read("own.csv"), read("p.csv"), "{path}: the same held-out pictures");
    }
    std::fs::rename(world.path().join("data"), world.path().join("moved")).unwrap();
    assert_eq!(json(&good(world.path(), &["val", "run", "--data", "moved", "--json"]))[0]["images"], 20);
}

#[test]
fn runs_are_listed_with_their_best_value() {
    let text = good(trained(), &["runs"]);
    assert!(text.contains("runs/digits") && text.contains(" %"), "{text}");
    let value = json(&good(trained(), &["runs", "--json"])).remove(0);
    assert_eq!((&value["epochs"], &value["settings"]["epochs"]), (&2.into(), &2.into()));
    assert!(value["best"]["val_accuracy"].as_f64().unwrap() > 0.8);
}

#[test]
fn bench_prints_what_the_peers_print() {
    let value = json(&good(
        trained(),
        &["bench", "lenet5", "--mode", "train", "--batch-size", "4", "--threads", "1", "--json"],
    ))
    .remove(0);
    assert_eq!((&value["peer"], &value["net"], &value["mode"]), (&"ocelli".into(), &"lenet5".into(), &"train".into()));
    assert_eq!((&value["batch"], &value["threads"]), (&4.into(), &1.into()));
    assert!(value["median_ms"].as_f64().unwrap() > 0.0 && value["images_per_s"].as_f64().unwrap() > 0.0);
    let layers = ["bench", "lenet5", "--mode", "train", "--batch-size", "4", "--threads", "1", "--layers"];
    let value = json(&good(trained(), &[&layers[..], &["--json"]].concat())).remove(0);
    let conv2 = value["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == "conv2").unwrap();
    assert_eq!(conv2["kernels"], serde_json::json!(["padded", "padded", "rows"]));
    for key in ["forward_ms", "data_gradient_ms", "weight_gradient_ms", "gflops", "peak_share"] {
        assert!(conv2[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(value["peak_gflops"].as_f64().unwrap() > 0.0 && value["memory_bytes"].as_u64().unwrap() > 100_000);
    let table = good(trained(), &layers);
    assert!(
        table.contains("padded, padded, rows") && table.contains("GFLOP/s of multiply-adds on 1 thread"),
        "{table}"
    );
    let conv = "n=1 c=4 k=8 h=9 w=9 r=3 s=3 stride=1 pad=1 dilation=1 groups=1";
    let value = json(&good(trained(), &["bench", "--conv", conv, "--json"])).remove(0);
    for key in ["forward_ms", "data_gradient_ms", "weight_gradient_ms"] {
        assert!(value[key].as_f64().is_some(), "{key}");
    }
    assert_eq!(value["kernels"], serde_json::json!(["padded", "rows", "padded"]));
    assert!(bad(trained(), 2, &["bench", "--conv", "n=1"]).0.contains("c= is missing"));
}

#[test]
fn summary_of_a_net_and_of_a_model() {
    let value = json(&good(trained(), &["summary", "lenet5", "--json"])).remove(0);
    assert_eq!((&value["name"], &value["parameters"], &value["schema"]), (&"lenet5".into(), &61706.into(), &1.into()));
    assert_eq!(value["layers"][3]["receptive_field"], serde_json::json!([14, 14]));
    assert!(good(trained(), &["summary", "latest"]).contains("61,706"));
    assert!(
        good(trained(), &["summary", "small-colour"]).contains("10·128 + 10"),
        "the zoo's nets all have a number of classes"
    );
    let (first, _) = bad(trained(), 2, &["summary", "lenet5", "--batch-size", "1000000000000"]);
    assert!(first.contains("a whole number from 1 to 1,000,000"), "{first}");
    // A batch beyond any machine is planned without taking its memory.
    assert!(good(trained(), &["summary", "vgg16", "--batch-size", "1000000"]).contains(" TB to infer, "));
    assert_eq!(bad(trained(), 2, &["summary", "lenet-5"]).1, "Did you mean \"lenet5\"?");
}

#[test]
fn data_sets_are_listed_and_described() {
    let text = good(trained(), &["data", "list"]);
    assert!(text.contains("mnist-10k") && text.contains("inside ocelli"), "{text}");
    let value = json(&good(trained(), &["data", "info", "mnist-10k", "--json"])).remove(0);
    assert_eq!(value["images"], serde_json::json!({ "train": 7000, "val": 1000, "test": 2000 }));
    assert!(bad(trained(), 2, &["data", "info", "mnist10k"]).1.contains("mnist-10k"));
    let (first, _) = bad(trained(), 2, &["data", "get", "mnist-10k"]);
    assert!(first.contains("inside ocelli"), "{first}");
}

/// Three splits of two classes, pictures of waves that are all different.
fn sound_data(world: &std::path::Path) {
    for (i, place) in ["train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog"].iter().enumerate() {
        let folder = world.join("data").join(place);
        std::fs::create_dir_all(&folder).unwrap();
        for k in 0..3 {
            let (across, down) = (1.0 + i as f32, 1.0 + 2.0 * k as f32);
            let wave = |x: u32, y: u32| (127.0 + 100.0 * ((x as f32 * across + y as f32 * down) / 9.0).sin()) as u8;
            let picture = image::GrayImage::from_fn(32, 32, |x, y| image::Luma([wave(x, y)]));
            picture.save(folder.join(format!("{k}.png"))).unwrap();
        }
    }
}

#[test]
fn data_check_passes_sound_data_and_fails_damaged_leaking_and_contradictory_data() {
    let checked = |change: &dyn Fn(&std::path::Path)| {
        let world = tempfile::tempdir().unwrap();
        sound_data(world.path());
        change(&world.path().join("data"));
        common::ocelli(world.path(), &["data", "check", "data"])
    };
    let sound = checked(&|_| ());
    assert_eq!((sound.code, sound.stderr.as_str()), (0, ""), "{}", sound.stdout);

    let copy = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |data: &std::path::Path| _ = std::fs::copy(data.join(&from), data.join(&to)).unwrap()
    };
    let fails = |ran: common::Ran, finding: &str, counts: &str| {
        assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(finding), "{}", ran.stdout);
        assert!(ran.stderr.contains(counts), "{}", ran.stderr);
    };
    let count = |damaged, leaks, conflicts| {
        format!("damaged pictures: {damaged}, pairs in two splits: {leaks}, pairs of two classes: {conflicts}")
    };
    fails(
        checked(&|data| common::pictures::cut(&data.join("train/cat/0.png"))),
        "train/cat/0.png (train)",
        &count(1, 0, 0),
    );
    let leak = "train/cat/1.png (train, cat) = test/cat/new.png (test, cat)  leak";
    fails(checked(&copy("train/cat/1.png", "test/cat/new.png")), leak, &count(0, 1, 0));
    let conflict = "train/cat/1.png (train, cat) = train/dog/new.png (train, dog)  classes differ";
    fails(checked(&copy("train/cat/1.png", "train/dog/new.png")), conflict, &count(0, 0, 1));
    // Twice in the same place is told, and harmless.
    let twice = checked(&copy("train/cat/1.png", "train/cat/new.png"));
    assert_eq!(twice.code, 0, "{}{}", twice.stdout, twice.stderr);
    assert!(twice.stdout.contains("the same pixels: 1 pair, 0 of them in two splits"), "{}", twice.stdout);
}
