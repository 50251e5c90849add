echo "from bash" > "${snakemake_output[0]}"
