"""Dense video captioning: submissions against timed sentences, with the numbers of densevid_eval and SODA_c."""
