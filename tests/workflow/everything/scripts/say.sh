cat "${snakemake[scriptdir]}/said.txt" > "${snakemake_output[0]}"
