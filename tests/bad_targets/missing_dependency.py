import a_package_nobody_has

model = None
