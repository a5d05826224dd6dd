use super::*;

fn merge(text: &str) -> Result<Settings> {
    Settings::merge([("args.toml", toml::from_str(text).unwrap())])
}

fn error(text: &str) -> String {
    merge(text).unwrap_err().to_string()
}

#[test]
fn settings_come_back_from_their_text() {
    let all = "seed = 7\nmax_time = \"2m\"\nimage_size = \"24x32\"\nclass_weights = [1, 0.5]\naugment = \"flip,crop:4\"
        mean = [0.48, 0.5, 0.52]\nstd = [0.25, 0.2, 0.3]\nschedule = \"one_cycle\"\noptimizer = \"adamw\"\nlr = 1
        max_steps = 100\nclip = 1\nstop_patience = 5\nmonitor = \"loss\"\nloss = \"mse\"\ninit = \"w.safetensors\"
        checkpoint_every = 10\nmilestones = [3, 6]";
    let settings = merge(all).unwrap();
    assert_eq!(settings.max_time, Some(Seconds(120.0)));
    assert_eq!(settings.image_size, Some(ImageSize([24, 32])));
    assert_eq!(settings.class_weights, ClassWeights::Given(vec![1.0, 0.5]));
    assert_eq!(merge(&settings.to_toml()).unwrap(), settings);
    assert_eq!(merge(&Settings::default().to_toml()).unwrap(), Settings::default());
    assert_eq!(merge("").unwrap(), Settings::default());
}

#[test]
fn a_later_layer_beats_an_earlier_one() {
    let layer = |text: &str| toml::from_str::<Table>(text).unwrap();
    let recipe = layer("lr = 0.5\nepochs = 3\nbatch_size = 8");
    let config = layer("lr = 0.1\nepochs = 4");
    let flags = layer("epochs = 5");
    let settings = Settings::merge([("recipe", recipe), ("config", config), ("flags", flags)]).unwrap();
    assert_eq!((settings.batch_size, settings.lr, settings.epochs), (8, Some(0.1), 5));
}

#[test]
fn slips_in_keys_and_values_are_recognised() {
    assert_eq!(error("epocs = 3"), "args.toml: unknown key epocs\nDid you mean epochs?");
    assert_eq!(error("schedule = 'cosin'"), "args.toml: schedule 'cosin' is unknown\nDid you mean cosine?");
    assert!(error("zzzzzzz = 3").starts_with("args.toml: unknown key zzzzzzz\nChoose one of format, net,"));
    assert_eq!(
        error("optimizer = 'lion'"),
        "args.toml: optimizer 'lion' is unknown\nChoose one of sgd, adam, adamw, adadelta."
    );
    assert!(error("lr = 'fast'").starts_with("args.toml: lr: invalid type: string"), "{}", error("lr = 'fast'"));
    assert_eq!(
        error("max_time = '5x'"),
        "args.toml: max_time: '5x' is not a time\nWrite it as 90s, 10m or 2h.",
        "the value's own advice is the second line"
    );
    assert!(error("image_size = '3by4'").contains("'3by4' is not an image size"));
}

#[test]
fn values_out_of_range_are_errors_with_the_number() {
    for (text, what) in [
        ("batch_size = 0", "a batch of 0 pictures"),
        ("epochs = 0", "epochs 0 cannot be"),
        ("lr = -1", "lr -1 cannot be"),
        ("lr = nan", "lr NaN cannot be"),
        ("momentum = 1", "momentum 1 cannot be"),
        ("weight_decay = -0.1", "weight_decay -0.1 cannot be"),
        ("clip = 0", "clip 0 cannot be"),
        ("gamma = 2", "gamma 2 cannot be"),
        ("min_lr = 1", "min_lr 1 cannot be"),
        ("max_time = 0", "max_time 0 cannot be"),
        ("step_epochs = 0", "step_epochs 0 cannot be"),
        ("workers = 0", "workers 0 cannot be"),
        ("schedule = 'multistep'", "schedule multistep without milestones"),
        ("milestones = [5, 5]", "milestones [5, 5] do not rise"),
        ("epochs = 2\nwarmup_epochs = 3", "3 warm-up epochs in a run of 2"),
        ("optimizer = 'adam'\nnesterov = true", "nesterov without sgd's momentum"),
        ("class_weights = [1, -1]", "class_weights [1.0, -1.0]"),
        ("epochs = -3", "args.toml: epochs: invalid value: integer `-3`"),
        ("format = 2", "args.toml: written in format 2"),
    ] {
        assert!(error(text).contains(what), "{text}: {}", error(text));
    }
}

#[test]
fn a_changed_setting_is_named_unless_it_does_not_matter() {
    let was = merge("lr = 0.1\nworkers = 2").unwrap();
    let is = merge("lr = 0.2\nworkers = 7\nmax_steps = 9\nclip = 1").unwrap();
    assert_eq!(was.changes(&is), ["clip: not set → 1.0", "lr: 0.1 → 0.2"]);
    assert_eq!(was.changes(&was), Vec::<String>::new());
    let remembered = was.remembered();
    assert!(["net", "data", "init", "workers"].iter().all(|key| !remembered.contains_key(*key)));
}

#[test]
fn files_beside_a_settings_file_are_found_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), "").unwrap();
    let path = folder.path().join("args.toml");
    std::fs::write(&path, "net = \"small.toml\"\ndata = \"mnist-10k\"\n").unwrap();
    let layer = Settings::read_layer(&path).unwrap();
    assert_eq!(layer["net"].as_str(), folder.path().join("small.toml").to_str());
    assert_eq!(layer["data"].as_str(), Some("mnist-10k"));
    std::fs::write(&path, "lr = 1\nlr = 2\n").unwrap();
    let error = Settings::read_layer(&path).unwrap_err();
    assert!(error.what().contains("args.toml, line 2: duplicate key"), "{error}");
}

#[test]
fn times_and_sizes_as_people_write_them() {
    assert_eq!("90".parse(), Ok(Seconds(90.0)));
    assert_eq!("1.5h".parse(), Ok(Seconds(5400.0)));
    assert!("soon".parse::<Seconds>().is_err() && "m".parse::<Seconds>().is_err() && "é".parse::<Seconds>().is_err());
    assert_eq!("227".parse(), Ok(ImageSize([227, 227])));
    assert!("0x3".parse::<ImageSize>().is_err() && "".parse::<ImageSize>().is_err());
    assert_eq!("2, 1,1".parse(), Ok(ClassWeights::Given(vec![2.0, 1.0, 1.0])));
}

#[test]
fn the_recipe_of_alexnet_says_what_the_paper_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/alexnet-2012.toml");
    let settings = Settings::merge([("recipe", Settings::read_layer(&path).unwrap())]).unwrap();
    assert_eq!((settings.batch_size, settings.momentum, settings.weight_decay), (128, 0.9, 5e-4));
    assert_eq!((settings.lr, settings.schedule, settings.gamma), (Some(0.01), ScheduleName::Plateau, 0.1));
    assert_eq!((settings.mean.clone(), settings.cover), (Some(Mean::Image), Some(ImageSize([256, 256]))));
    // The rate drops three times, no further.
    let schedule = crate::train::Schedule::new(&settings, 10);
    let rates = [1.0, 0.1, 0.01, 0.001, 0.0001].map(|factor| schedule.lr(500, factor));
    assert_eq!(rates, [1e-2, 1e-3, 1e-4, 1e-5, 1e-5]);
    // A comment over each key.
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let bare = (1..lines.len()).filter(|&i| !lines[i].is_empty() && !lines[i].starts_with('#'));
    let uncommented: Vec<&str> = bare.filter(|&i| !lines[i - 1].starts_with('#')).map(|i| lines[i]).collect();
    assert_eq!(uncommented, [""; 0]);
    let net = crate::net::Net::open(&settings.net).unwrap().resolve(Some(1000), None).unwrap();
    let ones: Vec<&str> =
        net.parameters().filter(|p| p.init == crate::net::Init::Constant(1.0)).map(|p| p.name.as_str()).collect();
    assert_eq!(ones, ["conv2.bias", "conv4.bias", "conv5.bias", "fc6.bias", "fc7.bias"]);
    assert!(
        net.parameters()
            .filter(|p| p.name.ends_with("weight"))
            .all(|p| p.init == crate::net::Init::Normal { std: 0.01 })
    );
}

#[test]
fn a_file_of_colours_is_read_once_and_its_numbers_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("colours.toml"), crate::data::Pca::IMAGENET.to_toml()).unwrap();
    std::fs::write(folder.path().join("recipe.toml"), "pca = 'colours.toml'\nmean = '0.1,0.2'").unwrap();
    let read = |name: &str| Settings::merge([(name, Settings::read_layer(&folder.path().join(name)).unwrap())]);
    let mut settings = read("recipe.toml").unwrap();
    assert_eq!(settings.mean, Some(Mean::Given(vec![0.1, 0.2])));
    settings.pca = settings.pca.read().unwrap();
    assert_eq!(settings.pca, PcaName::Given(crate::data::Pca::IMAGENET));
    std::fs::remove_file(folder.path().join("colours.toml")).unwrap();
    settings.write(&folder.path().join("args.toml")).unwrap();
    assert_eq!(read("args.toml").unwrap(), settings);
    let bad = |text: &str| Settings::merge([("it", toml::from_str(text).unwrap())]).unwrap_err().to_string();
    assert!(bad("pca = { eigenvalues = [1] }").contains("no principal components"));
    assert!(bad("pca = 3").contains("ocelli data pca") && bad("mean = 'midle'").contains("pixel, image"));
}
