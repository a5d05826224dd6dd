//! Runs one of the counted kernels some times on one thread; without arguments it prints their names.
//!
//! scripts/instructions.sh counts its instructions.

use ocelli_kernels::Cpu;

fn main() -> Result<(), String> {
    let (name, times) = (std::env::args().nth(1), std::env::args().nth(2));
    let Some(name) = name else {
        ocelli_benches::counted().iter().for_each(|case| println!("{}", case.name));
        return Ok(());
    };
    let times: usize = times.and_then(|times| times.parse().ok()).ok_or("how many times?")?;
    let case = ocelli_benches::counted().into_iter().find(|case| case.name == name).ok_or("no such kernel")?;
    let cpu = Cpu::new(1)?;
    let mut work = (case.prepare)(&cpu);
    (0..times).for_each(|_| work(&cpu));
    Ok(())
}
