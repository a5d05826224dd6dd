use super::*;

fn grey(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> Picture {
    let pixels = (0..height * width).map(|i| value(i / width, i % width)).collect();
    Picture { height, width, channels: 1, pixels }
}

fn preparation(size: [usize; 2], resize: Resize) -> Preparation {
    Preparation::new(size, 1, resize).unwrap()
}

#[test]
fn the_shorter_side_becomes_size_over_0875_and_the_centre_is_cut() {
    // 512 high and 768 wide scale by half to 256 x 384; the middle 224 x 224 begins at column 80 of it: 160 of 768.
    let picture = grey(512, 768, |_, x| (x / 3) as u8);
    assert_eq!(preparation([224, 224], Resize::Crop).cover, [256, 256]);
    let frame = preparation([224, 224], Resize::Crop).frame(picture).unwrap();
    assert_eq!((frame.height, frame.width), (224, 224));
    for x in 0..224 {
        let expected = (160.5 + 2.0 * x as f64) / 3.0;
        assert!((f64::from(frame.pixels[x]) - expected).abs() <= 1.0, "column {x}: {}, {expected}", frame.pixels[x]);
    }
}

#[test]
fn shrinking_is_antialiased() {
    // A chessboard of single pixels becomes even grey, not a pattern.
    let board = grey(256, 256, |y, x| if (x + y) % 2 == 0 { 255 } else { 0 });
    let frame = preparation([32, 32], Resize::Stretch).frame(board).unwrap();
    assert!(frame.pixels.iter().all(|value| value.abs_diff(127) <= 2), "{:?}", &frame.pixels[..32]);
}

#[test]
fn a_picture_of_the_right_size_keeps_every_value() {
    let picture = grey(28, 28, |y, x| (y * 9 + x) as u8);
    for resize in [Resize::Stretch, Resize::Letterbox] {
        assert_eq!(preparation([28, 28], resize).frame(picture.clone()).unwrap(), picture);
    }
    let own = Preparation { cover: [28, 28], ..preparation([28, 28], Resize::Crop) };
    assert_eq!(own.frame(picture.clone()).unwrap(), picture);
}

#[test]
fn a_letterbox_keeps_the_whole_picture_between_black_bars() {
    let frame = preparation([8, 8], Resize::Letterbox).frame(grey(10, 20, |_, _| 200)).unwrap();
    for (y, row) in frame.pixels.chunks(8).enumerate() {
        assert!(row.iter().all(|&value| value == if (2..6).contains(&y) { 200 } else { 0 }), "row {y}: {row:?}");
    }
    let thin = preparation([8, 8], Resize::Letterbox).frame(grey(1000, 1, |_, _| 9)).unwrap();
    assert_eq!(thin.pixels.iter().filter(|&&value| value == 9).count(), 8, "one column at least");
}

#[test]
fn any_shape_can_be_cut_and_stretched() {
    for (height, width) in [(1, 1), (1, 3000), (3000, 1), (7, 5)] {
        for resize in [Resize::Crop, Resize::Stretch, Resize::Letterbox] {
            let frame = preparation([9, 13], resize).frame(grey(height, width, |_, _| 77)).unwrap();
            assert_eq!((frame.height, frame.width, frame.pixels.len()), (9, 13, 9 * 13));
            assert!(frame.pixels.contains(&77));
        }
    }
}

#[test]
fn alexnets_pictures_cover_256_and_smaller_ones_are_scaled_up() {
    let alexnet = Preparation::new([227, 227], 1, Resize::Crop).and_then(|p| p.covering([256, 256])).unwrap();
    let augment: Augment = "crop:0".parse().unwrap();
    // 512 high and 768 wide: the shorter side becomes 256, and the middle 256 of 384 columns is kept.
    for (height, width, step) in [(512, 768, 2.0), (128, 192, 0.5)] {
        let picture = grey(height, width, |_, x| (x * 255 / width) as u8);
        let canvas = alexnet.canvas(picture, alexnet.canvas_size(&augment)).unwrap();
        assert_eq!((canvas.height, canvas.width), (256, 256));
        for x in 4..252 {
            let column = (64.0 + x as f64 + 0.5) * step - 0.5;
            let expected = column * 255.0 / width as f64;
            assert!((f64::from(canvas.pixels[x]) - expected).abs() <= 1.5, "{width}, column {x}");
        }
    }
    let error = Preparation::new([227, 227], 1, Resize::Crop).and_then(|p| p.covering([224, 256])).unwrap_err();
    assert!(error.to_string().contains("227 x 227 pixels cut out of 224 x 256\nChoose --cover from 227"), "{error}");
    assert!(Preparation::new([8, 8], 1, Resize::Stretch).and_then(|p| p.covering([9, 9])).is_err());
}

#[test]
fn numbers_become_the_bytes_that_they_were() {
    let picture = Picture { height: 2, width: 2, channels: 3, pixels: (0..12).map(|i| i * 23).collect() };
    let plain = Preparation { cover: [2, 2], ..Preparation::new([2, 2], 3, Resize::Crop).unwrap() };
    let plain = plain.with_statistics(vec![0.4, 0.5, 0.6], vec![0.2, 0.3, 1.0 / 255.0]).unwrap();
    let image = MeanImage::new(&(0..12).map(|i| i * 40).collect::<Vec<u64>>(), 2, 3);
    for preparation in [plain.clone(), Preparation { mean_image: Some(image), ..plain }] {
        assert_eq!(preparation.picture(&preparation.numbers(picture.clone()).unwrap()), picture);
    }
}

#[test]
fn numbers_are_scaled_planes() {
    let picture = Picture { height: 1, width: 2, channels: 3, pixels: vec![0, 51, 255, 255, 102, 0] };
    let preparation = Preparation::new([1, 2], 3, Resize::Stretch).unwrap();
    let scaled = preparation.clone().with_statistics(vec![0.5, 0.0, 0.0], vec![0.5, 2.0, 1.0]).unwrap();
    assert_eq!(scaled.numbers(picture).unwrap(), [-1.0, 1.0, 0.1, 0.2, 1.0, 0.0]);
    assert!(preparation.clone().with_statistics(vec![0.5], vec![0.5]).unwrap_err().what().contains("3 channels"));
    assert!(preparation.with_statistics(vec![0.5; 3], vec![0.5, 0.0, 1.0]).is_err());
}

#[test]
fn windows_may_reach_outside_and_be_mirrored() {
    let preparation = preparation([2, 3], Resize::Stretch);
    let canvas: Vec<u8> = (1..=6).map(|i| i * 10).collect();
    let cut = |top, left, flip| {
        let mut out = vec![f32::NAN; 6];
        Scale::new(&preparation).write(&canvas, [2, 3], Window { top, left, flip }, [2, 3], &mut out);
        out.iter().map(|value| (value * 255.0).round() as u8).collect::<Vec<_>>()
    };
    assert_eq!(cut(0, 0, false), [10, 20, 30, 40, 50, 60]);
    assert_eq!(cut(0, 0, true), [30, 20, 10, 60, 50, 40]);
    assert_eq!(cut(1, 1, false), [50, 60, 0, 0, 0, 0]);
    assert_eq!(cut(-1, -2, false), [0, 0, 0, 0, 0, 10]);
    assert_eq!(cut(-1, -2, true), [0, 0, 0, 10, 0, 0], "the window is cut, then mirrored");
    assert_eq!(cut(5, -9, false), [0; 6]);
    assert_eq!(cut(0, 9, false), [0; 6]);
}

#[test]
fn resampling_gives_the_same_bits_on_every_machine() {
    let mut state = 1u32;
    let mut noise = |n: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(n)
        .collect()
    };
    let mut sums = Vec::new();
    for (height, width, channels) in [(97, 131, 3), (40, 33, 1), (500, 311, 3)] {
        let picture = Picture { height, width, channels, pixels: noise(height * width * channels) };
        let frame = Preparation::new([64, 64], channels, Resize::Crop).unwrap().frame(picture).unwrap();
        // FNV-1a: any other value of any pixel changes it.
        let hash =
            frame.pixels.iter().fold(0x811c_9dc5u32, |h, &value| (h ^ u32::from(value)).wrapping_mul(0x0100_0193));
        sums.push(hash);
    }
    assert_eq!(sums, [0x4743_a730, 0xcbf3_88bc, 0x99b4_98c7]);
}

#[test]
fn it_is_stored_and_read_back() {
    let preparation = Preparation::new([32, 24], 3, Resize::Letterbox)
        .and_then(|preparation| preparation.with_statistics(vec![0.1, 0.2, 0.3], vec![0.4, 0.5, 0.6]))
        .unwrap();
    let text = toml::to_string(&preparation).unwrap();
    assert!(text.contains("resize = \"letterbox\""), "{text}");
    assert_eq!(toml::from_str::<Preparation>(&text).unwrap(), preparation);
}

#[test]
fn impossible_inputs_are_refused() {
    assert!(Preparation::new([28, 28], 2, Resize::Crop).unwrap_err().what().contains("2 channels"));
    assert!(Preparation::new([0, 28], 1, Resize::Crop).unwrap_err().what().contains("0 x 28"));
    assert!("cut".parse::<Resize>().unwrap_err().to_string().contains("letterbox"));
}
