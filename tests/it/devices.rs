//! Devices, without their runtimes.

use crate::cli;

/// Two convolutions.
const CONVOLUTIONS: &str = "graph g {
  %x: f32[1,2,8,8] = input
  %w: f32[2,2,3,3] = const WEIGHTS
  %c = conv(stride:[1,1],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %x, %w from net.conv (Conv)
  %s = conv(stride:[4,4],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %c, %w from net.wide (Conv)
  output y = %s
}
";

/// The run names the operators that the accelerator leaves to the CPU, with the rule and their share of the work.
#[test]
fn operators_on_the_cpu_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let weights: Vec<f32> = (0..36).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5).collect();
    std::fs::write(dir.path().join("model.qir"), CONVOLUTIONS.replace("WEIGHTS", &format!("{weights:?}"))).unwrap();
    let mut said = String::new();
    for device in ["ethos-u55", "ethos-u85"] {
        for more in [&["--io", "float"][..], &["--io", "int8"], &["--io", "int8", "--exclude", "net.wide"]] {
            let args = [
                "model.qir",
                "--device",
                device,
                "--int8",
                "--data",
                "random",
                "--effort",
                "fast",
                "-v",
                "-o",
                "m.tflite",
            ];
            let out = cli::qcc(dir.path(), &[&args[..], more].concat());
            assert!(out.status.success(), "{}", cli::text(&out.stderr));
            let text = cli::text(&out.stderr);
            let placed: Vec<&str> = text.split('\n').skip_while(|line| !line.contains("[placement]")).collect();
            said += &format!("{device} {}\n{}\n", more.join(" "), placed.join("\n"));
        }
    }
    insta::assert_snapshot!(said);
}

/// Inputs and outputs of types that the device lacks get others, and the run says so.
#[test]
fn types_that_the_device_lacks_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let model = "graph g {
        %x: i64[2,3] = input
        %h: f16[2,3] = input
        %y = binary(f:Add) %x, %x
        %z = unary(f:Abs) %h
        output y = %y
        output z = %z
    }";
    std::fs::write(dir.path().join("model.qir"), model).unwrap();
    let out = cli::qcc(dir.path(), &["model.qir", "--device", "tflm", "--verify", "-v", "-o", "m.tflite"]);
    let said = cli::text(&out.stderr);
    assert!(out.status.success(), "{said}");
    for note in
        ["input x is i32 in place of i64", "input h is f32 in place of f16", "output y is i32", "output z is f32"]
    {
        assert!(said.contains(note), "{note}: {said}");
    }
}
