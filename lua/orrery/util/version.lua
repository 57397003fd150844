--- The version of Orrery; CMakeLists.txt says the same.
return "0.1.0"
